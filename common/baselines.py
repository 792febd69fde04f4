"""What a method must beat before its numbers mean anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from common.errors import InputError
from common.segmenter import VideoSegmenter
from common.session import Session
from common.video import FrameMasks, Prompt


class CopyFirstMask(VideoSegmenter):
    """Repeats each target's first mask on every later frame: the score of knowing nothing about motion."""

    needs_weights = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def session(self, length: int | None = None) -> CopySession:
        """A session that remembers one mask a target, whatever the length."""
        return CopySession()


class AnswerNothing(VideoSegmenter):
    """Finds no target on any frame, whatever the prompt: the score of never looking."""

    needs_weights = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def session(self, length: int | None = None) -> NothingSession:
        """A session that remembers the ids of its targets only."""
        return NothingSession()


class CopySession(Session):
    """Answers every frame at once with the masks it was given."""

    def __init__(self) -> None:
        self.reset()

    def step(self, frame: Tensor, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
        """The masks given so far, on this frame; a later mask of the same target replaces the first."""
        self.size = size = self.check(frame, prompts)
        self.frame += 1
        self.masks |= {prompt.target: self._mask(prompt).to(frame.device) for prompt in prompts}
        targets = tuple(sorted(self.masks))
        masks = [self.masks[target] for target in targets]
        stacked = torch.stack(masks) if masks else torch.zeros((0, *size), dtype=torch.bool, device=frame.device)
        return [FrameMasks(self.frame, targets, stacked, torch.ones(len(targets), device=frame.device))]

    def finish(self) -> list[FrameMasks]:
        """Nothing is ever open."""
        return []

    def drop(self, target: int) -> None:
        """Stop repeating a target's mask.

        Raises:
            InputError: the target is not followed.
        """
        if target not in self.masks:
            raise InputError(f"target {target} is not followed; followed are {sorted(self.masks)}")
        del self.masks[target]

    def reset(self) -> None:
        """Forget the masks, the frame size and the frame count."""
        self.masks: dict[int, Tensor] = {}
        self.size = None
        self.frame = -1

    def _mask(self, prompt: Prompt) -> Tensor:
        assert prompt.mask is not None
        return prompt.mask


class NothingSession(CopySession):
    """Answers every frame at once with an empty mask for each target."""

    kinds = outside_kinds = ("mask", "box", "points", "text", "vocabulary")

    def _mask(self, prompt: Prompt) -> Tensor:
        assert self.size is not None
        return torch.zeros(self.size, dtype=torch.bool)
