"""What a method must beat before its numbers mean anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from common.errors import InputError
from common.segmenter import Session, VideoSegmenter
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
        self.masks: dict[int, Tensor] = {}
        self.size: tuple[int, ...] | None = None
        self.index = 0

    def step(self, frame: Tensor, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
        """The masks given so far, on this frame; a later mask of the same target replaces the first."""
        size = tuple(frame.shape[:2])
        if self.size not in (None, size):
            raise InputError(f"frame {self.index}: {size} but the first frame is {self.size}; give frames of one size")
        given = {prompt.target: self._mask(prompt, size).to(frame.device) for prompt in prompts}
        self.size = size
        self.masks |= given
        targets = tuple(sorted(self.masks))
        masks = [self.masks[target] for target in targets]
        stacked = torch.stack(masks) if masks else torch.zeros((0, *size), dtype=torch.bool, device=frame.device)
        answer = FrameMasks(self.index, targets, stacked, torch.ones(len(targets), device=frame.device))
        self.index += 1
        return [answer]

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
        self.masks.clear()
        self.size = None
        self.index = 0

    def _mask(self, prompt: Prompt, size: tuple[int, ...]) -> Tensor:
        """A mask on the frame itself, of the frame's size."""
        if prompt.mask is None or prompt.image is not None:
            raise InputError(f"prompt of target {prompt.target}: the copy baseline knows masks on frames only")
        if tuple(prompt.mask.shape) != size:
            have = tuple(prompt.mask.shape)
            raise InputError(f"prompt of target {prompt.target}: the mask is {have} but the frame is {size}")
        return prompt.mask


class NothingSession(CopySession):
    """Answers every frame at once with an empty mask for each target."""

    def _mask(self, prompt: Prompt, size: tuple[int, ...]) -> Tensor:
        return torch.zeros(size, dtype=torch.bool)
