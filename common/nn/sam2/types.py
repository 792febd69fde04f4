"""What goes in and out of the SAM 2 core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

NO_OBJECT_LOGIT = -1024.0
"""Mask logit of an absent object (the ``sam2`` package's hard switch)."""


@dataclass
class FrameFeatures:
    """Encoded frames, with no memory in them.

    Shape (S = image size, C = 256, nano 64):
        embedding: (B, C, S/16, S/16).
        fine: ((B, C/8, S/4, S/4), (B, C/4, S/8, S/8)), already reduced by the decoder's 1x1 convolutions.
    """

    embedding: Tensor
    fine: tuple[Tensor, Tensor]

    def select(self, rows: Tensor) -> FrameFeatures:
        """The same features for some rows of the batch, in any order and with repeats."""
        return FrameFeatures(self.embedding[rows], (self.fine[0][rows], self.fine[1][rows]))

    def expand(self, batch: int) -> FrameFeatures:
        """One frame's features seen as a batch of that size (no copy)."""
        embedding, *fine = (f.expand(batch, -1, -1, -1) for f in (self.embedding, *self.fine))
        return FrameFeatures(embedding, (fine[0], fine[1]))


@dataclass
class Candidates:
    """What the mask decoder says of one frame, for B objects with K = 3 (multimask) or K = 1 candidates.

    Shape:
        logits: (B, K, S/4, S/4), as the decoder gave them.
        ious: (B, K), predicted IoU in (0, 1).
        score: (B,), occlusion score, > 0 = the object is visible.
        pointers: (B, K, C), already the learned no-object pointer where the object is absent.
    """

    logits: Tensor
    ious: Tensor
    score: Tensor
    pointers: Tensor

    @property
    def visible_logits(self) -> Tensor:
        """float32 logits (B, K, S/4, S/4), all ``NO_OBJECT_LOGIT`` for an absent object: SAM 2's answer."""
        present = (self.score > 0)[:, None, None, None]
        return torch.where(present, self.logits.float(), NO_OBJECT_LOGIT)

    def pick(self, index: Tensor) -> Candidates:
        """Candidate ``index`` int64 (B,) of each object: K = 1."""
        rows = torch.arange(len(index), device=index.device)
        chosen = (x[rows, index][:, None] for x in (self.logits, self.ious, self.pointers))
        logits, ious, pointers = chosen
        return Candidates(logits, ious, self.score, pointers)

    def rows(self, index: Tensor) -> Candidates:
        """The same candidates for some rows of the batch."""
        return Candidates(self.logits[index], self.ious[index], self.score[index], self.pointers[index])

    def best(self) -> Candidates:
        """The candidate of highest predicted IoU of each object, the first on ties: K = 1."""
        return self.pick(self.ious.argmax(1))


@dataclass
class Bank:
    """The memories that one frame reads, for a batch of B equally long banks, in reading order.

    SAM 2's order is prompted frames, tracked frames oldest first, pointers.

    Attributes:
        maps: M memory maps (B, 64, S/16, S/16).
        slots: M rows of the temporal table: 0 = newest tracked … 5, 6 = prompted.
        pointers: L object pointers (B, C).
        offsets: L temporal distances in frames, scaled inside by 1 / (max_pointers - 1).
        map_weights: float (B, M) or None; scales memory + position of a map before the key projection (SAM2Long).
        pointer_weights: float (B, L) or None, the same for pointers.
        max_pointers: SAM 2's limit of 16, or the clip's length where that is shorter.
    """

    maps: list[Tensor] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    pointers: list[Tensor] = field(default_factory=list)
    offsets: list[float] = field(default_factory=list)
    map_weights: Tensor | None = None
    pointer_weights: Tensor | None = None
    max_pointers: int = 16

    @property
    def layout(self) -> tuple:
        """What two banks must share to be read in one call."""
        weighed = (self.map_weights is not None, self.pointer_weights is not None)
        return (tuple(self.slots), tuple(self.offsets), self.max_pointers, *weighed)

    @classmethod
    def merge(cls, banks: Sequence[Bank]) -> Bank:
        """Banks of one layout as one batch."""
        first = banks[0]
        if len(banks) == 1:
            return first
        stack = lambda kind: [torch.cat(same) for same in zip(*(getattr(b, kind) for b in banks), strict=True)]  # noqa: E731
        weights = lambda kind: None if getattr(first, kind) is None else torch.cat([getattr(b, kind) for b in banks])  # noqa: E731
        return cls(
            stack("maps"),
            first.slots,
            stack("pointers"),
            first.offsets,
            weights("map_weights"),
            weights("pointer_weights"),
            first.max_pointers,
        )
