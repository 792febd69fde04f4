"""What a method must beat before its numbers mean anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from common.errors import InputError
from common.inference.session import Session
from common.segmenter import VideoSegmenter
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


class WholeFrame(VideoSegmenter):
    """Every target is the whole frame, whatever the prompt: the score of never looking where targets are large.

    A vocabulary is answered by one target that is as likely each of its names.
    """

    needs_weights = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def session(self, length: int | None = None) -> WholeSession:
        """A session that remembers the ids of its targets only."""
        return WholeSession()


class MostFrequentClass(VideoSegmenter):
    """Answers a vocabulary with one name for all pixels: the score of knowing nothing but what is common.

    Args:
        category: the name, that of most pixels of the training set.
        kwargs: those of ``VideoSegmenter``.
    """

    needs_weights = False

    def __init__(self, category: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.category = category

    def session(self, length: int | None = None) -> WholeSession:
        """A session that remembers the vocabulary only."""
        return WholeSession(self.category)


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
    """Answers every frame at once with an empty mask for each given target; of a vocabulary it finds none."""

    names = 0  # in the vocabulary
    kinds = outside_kinds = ("mask", "box", "points", "text", "vocabulary")

    def step(self, frame: Tensor, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
        """Empty masks of the targets so far."""
        (answer,) = super().step(frame, prompts)
        self.names = next((len(p.vocabulary) for p in prompts if p.vocabulary is not None), self.names)
        if not self.names:
            return [answer]
        none = answer.scores[:0]
        return [
            replace(
                answer,
                targets=(),
                masks=answer.masks[:0],
                scores=none,
                categories=(),
                class_scores=none.new_zeros(0, self.names),
            )
        ]

    def reset(self) -> None:
        """Forget the targets and the vocabulary."""
        super().reset()
        self.names = 0

    def _mask(self, prompt: Prompt) -> Tensor:
        assert self.size is not None
        return torch.zeros(self.size, dtype=torch.bool)


class WholeSession(CopySession):
    """Answers every frame at once with the whole frame for each target.

    Args:
        category: what a vocabulary is answered with; by default each of its names is as likely.
    """

    kinds = outside_kinds = ("mask", "box", "points", "text", "vocabulary")

    def __init__(self, category: str | None = None) -> None:
        self.category = category
        self.vocabulary: tuple[str, ...] = ()
        super().__init__()

    def step(self, frame: Tensor, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
        """The whole frame for each target so far.

        Raises:
            InputError: see ``Session.check``, or the vocabulary lacks the category.
        """
        answers = super().step(frame, prompts)
        for prompt in prompts:
            if prompt.vocabulary is not None:
                if self.category is not None and self.category not in prompt.vocabulary:
                    raise InputError(f"category {self.category!r} is not in the vocabulary {prompt.vocabulary}")
                self.vocabulary = prompt.vocabulary
        if not self.vocabulary:
            return answers
        place = 0 if self.category is None else self.vocabulary.index(self.category)
        scores = torch.full((1, len(self.vocabulary)), 1 / len(self.vocabulary), device=frame.device)
        if self.category is not None:
            scores = torch.zeros_like(scores).index_fill_(1, torch.tensor([place], device=frame.device), 1.0)
        return [replace(answers[0], targets=(place + 1,), categories=(place,), class_scores=scores)]

    def reset(self) -> None:
        """Forget the targets and the vocabulary."""
        super().reset()
        self.vocabulary = ()

    def _mask(self, prompt: Prompt) -> Tensor:
        assert self.size is not None
        return torch.ones(self.size, dtype=torch.bool)
