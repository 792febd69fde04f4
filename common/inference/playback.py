"""The loop over a session: frames in order, each with its prompts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from common.errors import InputError
from common.inference.session import Session
from common.video import FrameMasks, Prompt, Video
from common.video.masks import without_overlap

Direction = Literal["forward", "backward", "both"]


def prompts_by_frame(video: Video) -> dict[int, list[Prompt]]:
    """Return the prompts of a video by the index of their frame.

    Raises:
        InputError: a prompt lies beyond the last frame.
    """
    schedule: dict[int, list[Prompt]] = defaultdict(list)
    for prompt in video.prompts:
        if video.length is not None and prompt.frame >= video.length:
            raise InputError(
                f"{video.id}: target {prompt.target} has a prompt at frame {prompt.frame}, but the video has "
                f"{video.length} frames, counted from 0"
            )
        schedule[prompt.frame].append(prompt)
    return schedule


class Propagation(NamedTuple):
    """The frames of a video that one session takes.

    Attributes:
        frames: indices of the frames, in the order in which the session takes them.
        prompts: by position in ``frames``.
        skip: number of answers at the start that are left out, since another propagation gives them.
    """

    frames: range
    prompts: Mapping[int, Sequence[Prompt]]
    skip: int = 0


def propagations(video: Video, direction: Direction = "forward") -> list[Propagation]:
    """Plan how a video of known length is tracked.

    Args:
        video: with its prompts.
        direction: ``forward`` from the first frame; ``backward`` from the last prompted frame to the first; ``both``
            from the first prompted frame forward, and, with a new session, from the last frame on which a target is
            first prompted backward, so that neither direction reads what the other has tracked. Backward a target has
            its first prompts alone.

    Raises:
        InputError: the length is unknown, or there is no prompt to start from, and the direction is not ``forward``;
            see ``prompts_by_frame``.
    """
    prompts = prompts_by_frame(video)
    if direction == "forward":
        return [Propagation(range(len(video)), prompts)]
    if video.length is None:
        raise InputError(f"{video.id}: a stream cannot be tracked backward; its frames are read once")
    if not prompts:
        raise InputError(f"{video.id}: there is no prompt to track backward from")
    if direction == "backward":
        start = max(prompts)
        return [Propagation(range(start, -1, -1), {start - frame: given for frame, given in prompts.items()})]
    start, first = min(prompts), first_frames(video)
    forward = Propagation(range(start, len(video)), {frame - start: given for frame, given in prompts.items()})
    last = max(first.values())
    given = {
        last - frame: [prompt for prompt in prompts[frame] if first[prompt.target] == frame] for frame in first.values()
    }
    return [forward, Propagation(range(last, -1, -1), given, skip=1)] if last else [forward]


def first_frames(video: Video) -> dict[int, int]:
    """Return the first prompted frame of each target."""
    first: dict[int, int] = {}
    for prompt in video.prompts:
        first[prompt.target] = min(prompt.frame, first.get(prompt.target, prompt.frame))
    return first


def nearest_prompts(answer: FrameMasks, first: Mapping[int, int]) -> FrameMasks:
    """Assign each contested pixel to the target whose first prompt is the nearest in time, the first of equals.

    Args:
        answer: of a frame that was tracked in both directions, with all targets.
        first: see ``first_frames``.
    """
    distances = torch.tensor([abs(first.get(target, 0) - answer.frame) for target in answer.targets])
    return replace(answer, masks=without_overlap(answer.masks, distances))


def merge_directions(
    forward: FrameMasks, backward: FrameMasks, first: Mapping[int, int], overlap: bool = False
) -> FrameMasks:
    """Merge the answers of both directions for one frame; a target that both have is that of the forward one.

    Args:
        forward: of the targets prompted up to this frame.
        backward: of those prompted from this frame on.
        first: see ``first_frames``.
        overlap: whether masks may overlap; otherwise see ``nearest_prompts``.
    """
    rows = {target: (backward, row) for row, target in enumerate(backward.targets)}
    rows |= {target: (forward, row) for row, target in enumerate(forward.targets)}
    taken = [rows[target] for target in sorted(rows)]
    if not taken:
        return forward
    logits = [part.logits[row] for part, row in taken if part.logits is not None]
    answer = FrameMasks(
        forward.frame,
        tuple(sorted(rows)),
        torch.stack([part.masks[row] for part, row in taken]),
        torch.stack([part.scores[row] for part, row in taken]),
        logits=torch.stack(logits) if len(logits) == len(taken) else None,
        candidates={**(backward.candidates or {}), **(forward.candidates or {})} or None,
    )
    return answer if overlap else nearest_prompts(answer, first)


def prompt_ahead(
    session: Session, video: Video, propagation: Propagation, device: torch.device, begun: bool = False
) -> Propagation:
    """Give a session the later masks and boxes of targets that are prompted on several frames, before tracking.

    All frames of such a target read them, as in the ``sam2`` package. Later points alone stay where they are: they
    correct the answer that the memory of the past gives for their frame.

    Args:
        session: new, or resumed where ``begun``.
        video: of known length.
        propagation: of the session.
        device: of the method.
        begun: the prompts have been given before the session was saved.

    Returns:
        The propagation with the prompts that are left.

    Raises:
        InputError: see ``Session.prompt_ahead``.
    """
    seen: set[int] = set()
    rest: dict[int, list[Prompt]] = {}
    for place in sorted(propagation.prompts):
        given = propagation.prompts[place]
        ahead = [
            prompt
            for prompt in given
            if prompt.target in seen
            and prompt.image is None
            and (prompt.mask is not None or prompt.box is not None)
            and set(prompt.kinds) <= set(session.ahead_kinds)
        ]
        if ahead and not begun:
            session.prompt_ahead(place, video[propagation.frames[place]].to(device), ahead)
        rest[place] = [prompt for prompt in given if prompt not in ahead]
        seen |= {prompt.target for prompt in given}
    return propagation._replace(prompts=rest)


def in_video(propagation: Propagation, answers: Iterable[FrameMasks]) -> Iterator[FrameMasks]:
    """Give the answers of a propagation the indices of their frames in the video, and leave out the first ``skip``."""
    for answer in answers:
        if answer.frame >= propagation.skip:
            yield replace(answer, frame=propagation.frames[answer.frame])


def empty_answers(video: Video, plan: Sequence[Propagation]) -> Iterator[FrameMasks]:
    """Yield empty answers for the frames that no propagation takes."""
    missing = sorted(set(range(len(video))) - {frame for propagation in plan for frame in propagation.frames})
    size = video[0].shape[:2] if missing else ()
    for frame in missing:
        yield FrameMasks(frame, (), torch.zeros(0, *size, dtype=torch.bool), torch.zeros(0))


def play_directed(
    open_session: Callable[[int], Session], video: Video, device: torch.device, direction: Direction
) -> Iterator[FrameMasks]:
    """Track a video of known length and yield the answers in frame order.

    What is tracked backward is held, on its device, until it is complete; what is tracked forward is yielded at once.

    Args:
        open_session: opens a session for a number of frames.
        video: with its prompts.
        device: of the method.
        direction: see ``propagations``.

    Raises:
        InputError: see ``propagations``, ``Session.step``.
    """
    plan, first = propagations(video, direction), first_frames(video)
    held: dict[int, FrameMasks] = {}  # of the backward direction
    for propagation in sorted(plan, key=lambda propagation: propagation.frames.step):
        session = open_session(len(propagation.frames))
        propagation = prompt_ahead(session, video, propagation, device)
        whole = propagation.frames == range(len(video))  # in order a file is decoded once
        frames: Iterable[Tensor] = video if whole else (video[frame] for frame in propagation.frames)
        answers = in_video(propagation, play(session, frames, propagation.prompts, device))
        if propagation.frames.step < 0:
            held = {answer.frame: answer for answer in answers}
            continue
        yield from (held.pop(frame) for frame in sorted(held) if frame < propagation.frames.start)
        for answer in answers:
            other = held.pop(answer.frame, None)
            yield answer if other is None else merge_directions(answer, other, first, session.overlap)
    yield from (held[frame] for frame in sorted(held))
    yield from empty_answers(video, plan)


def steps(
    session: Session,
    frames: Iterable[Tensor],
    prompts: Mapping[int, Sequence[Prompt]],
    device: torch.device,
    first: int = 0,
) -> Iterator[list[FrameMasks]]:
    """Run a session over frames, and leave it open.

    Args:
        session: new, or resumed after ``first`` frames.
        frames: uint8 RGB (H, W, 3), from frame ``first`` on.
        prompts: by frame, see ``prompts_by_frame``.
        device: device of the method.
        first: index of the first frame.

    Yields:
        The answers that became final with each frame.

    Raises:
        InputError: see ``Session.step``.
    """
    for index, frame in enumerate(frames, first):
        yield session.step(frame.to(device), prompts.get(index, ()))


def play(
    session: Session, frames: Iterable[Tensor], prompts: Mapping[int, Sequence[Prompt]], device: torch.device
) -> Iterator[FrameMasks]:
    """Run a new session over all frames, finish it, and yield the answers in frame order; arguments as of ``steps``."""
    for answers in steps(session, frames, prompts, device):
        yield from answers
    yield from session.finish()


@contextmanager
def evaluation_mode(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Put modules into evaluation mode, and each back into its own mode at the end.

    ``module.train()`` would not do that: frozen parts stay in evaluation mode while the rest is trained.

    Args:
        modules: every part by itself, as ``nn.Module.modules`` yields them.
    """
    modes = [(module, module.training) for module in modules]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
