"""The loop over a session: frames in order, each with its prompts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from common.errors import InputError
from common.inference.session import Session
from common.video import FrameMasks, Prompt, Video


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
