"""The concept bank: CLIP embeddings of category names, a vocabulary after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ConceptBank(nn.Module):
    """Rows of every vocabulary that was asked for; no part of the state dict, as it follows from names and text tower.

    Args:
        channels: of an embedding.
    """

    rows: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.empty(0, channels), persistent=False)
        self._slices: dict[tuple[str, ...], slice] = {}

    def get(self, names: Sequence[str]) -> Tensor | None:
        """Rows (K, D) of a vocabulary, None if it was never added."""
        place = self._slices.get(tuple(names))
        return None if place is None else self.rows[place]

    def add(self, names: Sequence[str], rows: Tensor) -> Tensor:
        """Put the rows (K, D) of a vocabulary behind the others; the same rows are returned."""
        self._slices[tuple(names)] = slice(len(self.rows), len(self.rows) + len(rows))
        self.rows = torch.cat([self.rows, rows])
        return rows

    def clear(self) -> None:
        """Forget all rows, as when the text tower has got other weights."""
        self.rows = self.rows[:0]
        self._slices.clear()
