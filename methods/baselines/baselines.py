"""Trivial baselines without weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from common.errors import InputError
from common.inference.session import Frame, Session, check_tracked
from common.segmenter import VideoSegmenter
from common.video import FrameMasks, Prompt


class CopyFirstMask(VideoSegmenter):
    """Repeat each target's first mask on every later frame."""

    needs_weights = False

    def session(self, length: int | None = None) -> CopySession:
        """Open a session that stores one mask per target.

        Args:
            length: number of frames; not used.
        """
        return CopySession()


class AnswerNothing(VideoSegmenter):
    """Predict an empty mask for every target on every frame."""

    needs_weights = False

    def session(self, length: int | None = None) -> NothingSession:
        """Open a session that stores the ids of its targets.

        Args:
            length: number of frames; not used.
        """
        return NothingSession()


class WholeFrame(VideoSegmenter):
    """Predict the whole frame for every target; for a vocabulary, one target with equal scores for all names."""

    needs_weights = False

    def session(self, length: int | None = None) -> WholeSession:
        """Open a session that stores the ids of its targets.

        Args:
            length: number of frames; not used.
        """
        return WholeSession()


class MostFrequentClass(VideoSegmenter):
    """Predict one class for all pixels.

    Args:
        category: name of the class, e.g. the most frequent one of the training set.
        kwargs: arguments of ``VideoSegmenter``.
    """

    needs_weights = False

    def __init__(self, category: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.category = category

    def session(self, length: int | None = None) -> WholeSession:
        """Open a session that stores the vocabulary.

        Args:
            length: number of frames; not used.
        """
        return WholeSession(self.category)


class CopySession(Session):
    """Session that returns the prompt masks on every frame."""

    correction_kinds: tuple[str, ...] = ("mask",)
    overlap = True

    def __init__(self) -> None:
        self._answer: FrameMasks | None = None  # of the last frame
        self.reset()

    def step(self, frame: Frame, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
        """Return all prompt masks up to this frame; a later mask of a target replaces the earlier one.

        Args:
            frame: uint8 (H, W, 3).
            prompts: prompts of this frame.
        """
        frame, size = self.check(frame, prompts)
        self.size = size
        self.frame += 1
        self.masks |= {prompt.target: self._mask(prompt).to(frame.device) for prompt in prompts}
        targets = tuple(sorted(self.masks))
        masks = [self.masks[target] for target in targets]
        stacked = torch.stack(masks) if masks else torch.zeros((0, *size), dtype=torch.bool, device=frame.device)
        answer = FrameMasks(self.frame, targets, stacked, torch.ones(len(targets), device=frame.device))
        self._answer = answer
        return [answer]

    def correct(self, prompts: Sequence[Prompt]) -> FrameMasks:
        """Replace masks from the last frame on; see ``Session.correct``.

        Raises:
            InputError: see ``Session.check_correction``; the session is unchanged.
        """
        if not self.correction_kinds:
            return super().correct(prompts)
        self.check_correction(prompts, self.masks)
        assert self._answer is not None
        self.masks |= {prompt.target: self._mask(prompt).to(self._answer.masks.device) for prompt in prompts}
        self._answer = self._answer.with_masks({p.target: p.mask for p in prompts if p.mask is not None}, overlap=True)
        return self._answer

    def finish(self) -> list[FrameMasks]:
        """Return nothing, since every frame has been answered."""
        return []

    def drop(self, target: int) -> None:
        """Stop returning a target's mask.

        Args:
            target: id of the target.

        Raises:
            InputError: the target is not tracked.
        """
        check_tracked(target, self.masks)
        del self.masks[target]

    def reset(self) -> None:
        """Clear the masks, the frame size and the frame count."""
        self.masks: dict[int, Tensor] = {}
        self._answer = None
        self.size = None
        self.frame = -1

    def _mask(self, prompt: Prompt) -> Tensor:
        assert prompt.mask is not None
        return prompt.mask


class NothingSession(CopySession):
    """Session that returns an empty mask per target, and no detection for a vocabulary."""

    names = 0  # number of names in the vocabulary
    kinds = outside_kinds = ("mask", "box", "points", "text", "vocabulary")
    correction_kinds = ()

    def step(self, frame: Frame, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
        """Return empty masks of all targets up to this frame.

        Args:
            frame: uint8 (H, W, 3).
            prompts: prompts of this frame.
        """
        (answer,) = super().step(frame, prompts)
        self.names = next((len(p.vocabulary) for p in prompts if p.vocabulary is not None), self.names)
        if not self.names:
            return [answer]
        empty = answer.scores[:0]
        return [
            replace(
                answer,
                targets=(),
                masks=answer.masks[:0],
                scores=empty,
                categories=(),
                class_scores=empty.new_zeros(0, self.names),
            )
        ]

    def reset(self) -> None:
        """Clear the targets and the vocabulary."""
        super().reset()
        self.names = 0

    def _mask(self, prompt: Prompt) -> Tensor:
        assert self.size is not None
        return torch.zeros(self.size, dtype=torch.bool)


class WholeSession(CopySession):
    """Session that returns the whole frame for each target.

    Args:
        category: predicted class of a vocabulary; default: equal scores for all names.
    """

    kinds = outside_kinds = ("mask", "box", "points", "text", "vocabulary")
    correction_kinds = ()

    def __init__(self, category: str | None = None) -> None:
        self.category = category
        self.vocabulary: tuple[str, ...] = ()
        super().__init__()

    def step(self, frame: Frame, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
        """Return the whole frame for each target up to this frame.

        Args:
            frame: uint8 (H, W, 3).
            prompts: prompts of this frame.

        Raises:
            InputError: see ``Session.check``; also if the vocabulary lacks the category.
        """
        answers = super().step(frame, prompts)
        for prompt in prompts:
            if prompt.vocabulary is not None:
                if self.category is not None and self.category not in prompt.vocabulary:
                    raise InputError(f"category {self.category!r} is not in the vocabulary {prompt.vocabulary}")
                self.vocabulary = prompt.vocabulary
        if not self.vocabulary:
            return answers
        index = 0 if self.category is None else self.vocabulary.index(self.category)
        device = answers[0].masks.device
        scores = torch.full((1, len(self.vocabulary)), 1 / len(self.vocabulary), device=device)
        if self.category is not None:
            scores = torch.zeros_like(scores).index_fill_(1, torch.tensor([index], device=device), 1.0)
        return [replace(answers[0], targets=(index + 1,), categories=(index,), class_scores=scores)]

    def reset(self) -> None:
        """Clear the targets and the vocabulary."""
        super().reset()
        self.vocabulary = ()

    def _mask(self, prompt: Prompt) -> Tensor:
        assert self.size is not None
        return torch.ones(self.size, dtype=torch.bool)
