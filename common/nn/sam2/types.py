"""Inputs and outputs of SAM 2's steps: features of frames, candidate masks, banks of memories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

TRACKED_MAPS = 6
"""Tracked frames whose memory maps are read: SAM 2's ``num_maskmem`` 7, less the prompted frame."""

PROMPT_SLOT = 6
"""Row of the temporal table for prompted frames."""

MAX_POINTERS = 16
"""Frames whose object pointers are read at most."""

CLEARED = 7
"""Frames on either side of an input whose memories ``clear_around_input`` forgets."""

LOGIT_LIMIT = 32.0
"""Mask logits that are fed back to the decoder are clamped to this, as in the ``sam2`` package."""

NO_OBJECT_LOGIT = -1024.0
"""Mask logit of an absent object, as in the ``sam2`` package."""

TransformersModule = Any
"""A module of transformers, whose attributes have no useful types."""

Layout = tuple[tuple[int, ...], tuple[float, ...], int, bool, bool]
"""What two banks must share to be read in one call, see ``Bank.layout``."""


@dataclass
class FrameFeatures:
    """Features of frames, not conditioned on memory.

    Attributes:
        embedding: (B, C, S/16, S/16); S = image size, C = 256, nano 64.
        fine: ((B, C/8, S/4, S/4), (B, C/4, S/8, S/8)), already reduced by the decoder's 1x1 convolutions.
    """

    embedding: Tensor
    fine: tuple[Tensor, Tensor]

    def select(self, rows: Tensor) -> FrameFeatures:
        """Select rows of the batch, in any order and with repeats."""
        return FrameFeatures(self.embedding[rows], (self.fine[0][rows], self.fine[1][rows]))

    def expand(self, batch: int) -> FrameFeatures:
        """Expand the features of one frame to a batch, without a copy."""
        embedding, *fine = (f.expand(batch, -1, -1, -1) for f in (self.embedding, *self.fine))
        return FrameFeatures(embedding, (fine[0], fine[1]))


@dataclass
class Candidates:
    """The mask decoder's output on one frame, for B objects with K = 3 (multimask) or K = 1 candidates.

    Attributes:
        logits: mask logits (B, K, S/4, S/4) as decoded, also of absent objects.
        ious: predicted IoU (B, K) in (0, 1).
        score: occlusion score (B,), > 0 = the object is visible.
        pointers: object pointers (B, K, C); the learned no-object pointer where the object is absent.
        presence: occlusion score above which an object has a mask and a pointer; 0 in SAM 2.
    """

    logits: Tensor
    ious: Tensor
    score: Tensor
    pointers: Tensor
    presence: float = 0.0

    @property
    def visible_logits(self) -> Tensor:
        """SAM 2's mask logits float32 (B, K, S/4, S/4): ``NO_OBJECT_LOGIT`` everywhere for an absent object."""
        present = (self.score > self.presence)[:, None, None, None]
        return torch.where(present, self.logits.float(), NO_OBJECT_LOGIT)

    def pick(self, index: Tensor) -> Candidates:
        """Select one candidate of each object by ``index`` int64 (B,): K = 1."""
        rows = torch.arange(len(index), device=index.device)
        chosen = (x[rows, index][:, None] for x in (self.logits, self.ious, self.pointers))
        logits, ious, pointers = chosen
        return Candidates(logits, ious, self.score, pointers, self.presence)

    def rows(self, index: Tensor) -> Candidates:
        """Select rows of the batch by ``index`` int64 (n,)."""
        return Candidates(self.logits[index], self.ious[index], self.score[index], self.pointers[index], self.presence)

    def row(self, index: int) -> Candidates:
        """Select one row of the batch, as a view."""
        part = slice(index, index + 1)
        return Candidates(self.logits[part], self.ious[part], self.score[part], self.pointers[part], self.presence)

    def best(self) -> Candidates:
        """Select the candidate of highest predicted IoU of each object, the first on ties: K = 1."""
        return self.pick(self.ious.argmax(1))


@dataclass
class Bank:
    """The memories that one frame reads, for a batch of B banks of one layout.

    SAM 2's order is prompted frames, then tracked frames, oldest first.

    Attributes:
        maps: M memory maps (B, 64, S/16, S/16).
        slots: rows of SAM 2's temporal table, one for each map: 0 = newest tracked … 5, 6 = prompted.
        pointers: L object pointers (B, C).
        offsets: temporal distances in frames, one for each pointer; the model divides them by ``max_pointers`` - 1.
        map_weights: float (B, M) or None; factors of memory + position of a map before the key projection (SAM2Long).
        pointer_weights: float (B, L) or None, the same for pointers.
        max_pointers: SAM 2's limit of 16, or the length of the clip where that is shorter.
    """

    maps: list[Tensor] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    pointers: list[Tensor] = field(default_factory=list)
    offsets: list[float] = field(default_factory=list)
    map_weights: Tensor | None = None
    pointer_weights: Tensor | None = None
    max_pointers: int = MAX_POINTERS

    @property
    def layout(self) -> Layout:
        """All that two banks must share to be read in one call."""
        weighed = (self.map_weights is not None, self.pointer_weights is not None)
        return (tuple(self.slots), tuple(self.offsets), self.max_pointers, *weighed)

    @staticmethod
    def group(banks: Sequence[Bank]) -> list[list[int]]:
        """Group the indices of banks by layout, groups in order of first appearance."""
        groups: dict[Layout, list[int]] = {}
        for index, bank in enumerate(banks):
            groups.setdefault(bank.layout, []).append(index)
        return list(groups.values())

    @classmethod
    def merge(cls, banks: Sequence[Bank]) -> Bank:
        """Concatenate banks of one layout along the batch axis."""
        first = banks[0]
        if len(banks) == 1:
            return first
        return cls(
            _merge_lists(banks, lambda bank: bank.maps),
            first.slots,
            _merge_lists(banks, lambda bank: bank.pointers),
            first.offsets,
            _merge_weights(banks, lambda bank: bank.map_weights),
            _merge_weights(banks, lambda bank: bank.pointer_weights),
            first.max_pointers,
        )


def _merge_lists(banks: Sequence[Bank], entries: Callable[[Bank], list[Tensor]]) -> list[Tensor]:
    """Concatenate the i-th entries of all banks, for every i."""
    return [torch.cat(same) for same in zip(*map(entries, banks), strict=True)]


def _merge_weights(banks: Sequence[Bank], weights: Callable[[Bank], Tensor | None]) -> Tensor | None:
    """Concatenate the weights of all banks; None where they have none."""
    present = [bank_weights for bank in banks if (bank_weights := weights(bank)) is not None]
    return torch.cat(present) if present else None
