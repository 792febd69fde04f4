"""Streaming inference of VQ-SAM, clip by clip; each clip reads the query alone, so that memory does not grow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from common.inference.session import Frame, check_tracked
from common.nn.preprocessing import resize_logits
from common.nn.sam2 import FrameFeatures
from common.nn.sam2.session import ReadFrame, SAM2Session
from common.video import FrameMasks, Prompt
from methods.vqsam.model import Query, VQSAMNetwork
from methods.vqsam.prompts import fit_masks, prompt_mask


@dataclass
class Answer:
    """The prediction of one target on one frame.

    Attributes:
        logits: mask logits float32 (S/4, S/4).
        score: occlusion score, > 0 = the target is visible.
    """

    logits: Tensor
    score: float

    @property
    def confidence(self) -> float:
        """Size of the occlusion score, of either sign."""
        return abs(self.score)


@dataclass
class Target:
    """State of a target.

    Attributes:
        query: its encoded query.
        clip: indices of the frames of the clip that is being filled.
        overlapping: predictions of the last clip on those of its frames that are in this clip too, by frame.
    """

    query: Query
    clip: list[int] = field(default_factory=list)
    overlapping: dict[int, Answer] = field(default_factory=dict)


class VQSAMSession(SAM2Session):
    """A session that segments each target clip by clip.

    The clips of a target begin with the frame on which its query image is given, or after it where that frame is itself
    the query. The last clip of a video, or of a target that is dropped, may be shorter. A frame is returned at most
    ``clip_length`` - 1 frames late. The session holds the features of fewer than ``clip_length`` frames, and S/4 logits
    of as many for each target.

    Args:
        network: VQ-SAM's network, in eval mode.
        clip_length: frames of a clip.
        clip_overlap: frames that two consecutive clips share. Of their two predictions the more confident is returned,
            by the size of the occlusion score, the earlier on ties.
    """

    correction_kinds = ("mask", "box", "points")
    settable = ("overlap", "keep_logits")

    def __init__(self, network: VQSAMNetwork, clip_length: int = 7, clip_overlap: int = 0) -> None:
        self.network, self.clip_length, self.clip_overlap = network, clip_length, clip_overlap
        super().__init__(network.sam2)

    def reset(self) -> None:
        """Forget everything: the session is as new."""
        super().reset()
        self.targets: dict[int, Target] = {}
        self._features: dict[int, FrameFeatures] = {}
        # of the last frame: for corrections, its targets, and those of their answers that are final
        self._last: ReadFrame | None = None
        self._shown: tuple[int, ...] = ()
        self._answered: dict[int, Answer] = {}

    @torch.inference_mode()
    def step(self, frame: Frame, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
        """Take the next frame; see ``Session.step``. A mask or a box may lie on an outside image.

        Raises:
            InputError: see ``Session.check``; the session is then as if the frame had not been given.
        """
        frame, self.size = self.check(frame, prompts)
        self.frame += 1
        self._last, self._answered = None, {}
        if self.targets or prompts:
            self._last = ReadFrame(features := self._encode(frame))
            self._features[self.frame] = features
        by_target = {prompt.target: prompt for prompt in prompts}
        for target, prompt in by_target.items():
            self._prompt(target, prompt, frame.device)
        for target, state in self.targets.items():
            if target not in by_target or by_target[target].image is not None:
                state.clip.append(self.frame)
                if len(state.clip) == self.clip_length:
                    self._segment(target, state, self.clip_overlap)
        self._shown = self._pending[self.frame] = tuple(sorted(self.targets))
        return self._answers()

    @torch.inference_mode()
    def correct(self, prompts: Sequence[Prompt]) -> FrameMasks:
        """Correct the answer for the last frame; see ``Session.correct`` and ``SAM2Session._decode_correction``.

        The corrected mask is the target's query from then on; one without a pixel changes the answer alone. The frames
        of its clip before the correction are segmented with the query of before. Where a clip is not full yet, the
        answers of the other targets are those of the clip as short as it is, for now: later they are answered as
        without the correction.

        Raises:
            InputError: see ``Session.check_correction``; the session is unchanged.
        """
        last = self._last
        self.check_correction(prompts, self.targets)
        assert last is not None
        for prompt in prompts:
            state = self.targets[prompt.target]
            before = None if prompt.mask is not None else self._last_answer(prompt.target).logits[None, None]
            decoded = self._decode_correction(last, prompt, before)
            self._note(prompt, decoded)
            answer, side = decoded.best(), self.sam2.image_size
            if prompt.mask is not None:
                mask = fit_masks(prompt.mask.to(answer.logits.device)[None], side)
            else:
                mask = (resize_logits(answer.logits.float(), (side, side)) > 0).float()
            state.clip = [frame for frame in state.clip if frame != self.frame]
            state.overlapping.pop(self.frame, None)
            if mask.any():
                self._segment(prompt.target, state, 0)
                self.targets[prompt.target] = Target(self.network.encode_query(last.features, mask))
            self._answered[prompt.target] = Answer(answer.visible_logits[0, 0], float(answer.score))
            if self.frame in self._pending:
                self._final[self.frame][prompt.target] = self._answered[prompt.target]
        return self._masks(self.frame, self._shown, [self._last_answer(target) for target in self._shown])

    def _last_answer(self, target: int) -> Answer:
        """Return the answer of a target on the last frame, as far as it is known."""
        return self._answered[target] if target in self._answered else self._predict(self.targets[target])[self.frame]

    @torch.inference_mode()
    def finish(self) -> list[FrameMasks]:
        """Segment the clips that are not full, and return their frames."""
        for target, state in self.targets.items():
            self._segment(target, state, 0)
        return self._answers()

    @torch.inference_mode()
    def drop(self, target: int) -> None:
        """Stop tracking a target from the next frame on; its clip is segmented as short as it is.

        Raises:
            InputError: the target is not tracked.
        """
        check_tracked(target, self.targets)
        self._segment(target, self.targets.pop(target), 0)

    def _prompt(self, target: int, prompt: Prompt, device: torch.device) -> None:
        """Start a target, or start it anew from a later query.

        A frame that is itself the query is answered by the query's mask, as SAM 2 answers prompted frames.
        """
        if target in self.targets:
            self._segment(target, self.targets.pop(target), 0)
        assert self.size is not None
        if prompt.image is not None:
            features, size = self._encode(prompt.image.to(device)), (prompt.image.shape[0], prompt.image.shape[1])
        else:
            features, size = self._features[self.frame], self.size
        mask = prompt_mask(self.sam2, features, prompt, size)
        self.targets[target] = Target(self.network.encode_query(features, mask))
        if prompt.image is None:
            answer = self.sam2.take_mask(features, mask)
            if prompt.mask is not None:
                self._given[self.frame].add(target)
            elif self._last is not None:
                self._last.points[target] = self._points(prompt)
            self._finish_answer(self.frame, target, Answer(answer.visible_logits[0, 0], float(answer.score)))

    def _finish_answer(self, frame: int, target: int, answer: Answer) -> None:
        self._final[frame][target] = answer
        if frame == self.frame:
            self._answered[target] = answer

    def _segment(self, target: int, state: Target, keep: int) -> None:
        """Segment the clip of a target; its last ``keep`` frames are not final yet and begin the next clip."""
        state.overlapping = self._predict(state)
        last = state.clip[len(state.clip) - keep :]
        for frame in state.clip[: len(state.clip) - keep]:
            self._finish_answer(frame, target, state.overlapping.pop(frame))
        state.clip = last

    def _predict(self, state: Target) -> dict[int, Answer]:
        """Return the answers of a target on the frames of its clip."""
        answers = dict(state.overlapping)
        if len(state.clip) == len(answers):  # every frame was in the last clip: nothing new to see
            return answers
        frames = [self._features[frame] for frame in state.clip]
        fine = (torch.cat([f.fine[level] for f in frames]) for level in range(2))
        clip = FrameFeatures(torch.cat([f.embedding for f in frames]), (next(fine), next(fine)))
        rows = torch.arange(len(frames), device=clip.embedding.device)[None]
        best = self.network(clip, rows, state.query)[-1].best()
        for frame, logits, score in zip(state.clip, best.visible_logits[:, 0], best.score.tolist(), strict=True):
            new = Answer(logits.clone(), score)
            old = answers.get(frame, new)
            answers[frame] = new if new.confidence > old.confidence else old
        return answers

    def _answers(self) -> list[FrameMasks]:
        """Free the features that no clip needs, and return the frames whose targets are all final, in order."""
        needed = {frame for state in self.targets.values() for frame in state.clip}
        self._features = {frame: features for frame, features in self._features.items() if frame in needed}
        return self._pop_final()
