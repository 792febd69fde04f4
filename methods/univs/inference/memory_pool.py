"""The memory pool of a target: prompt tokens and embeddings of past frames, and the masks of frames still open.

Legend: T frames of a clip, R tokens of a frame, M frames of memory, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.univs.network.prompts import VisualTokens


class Pool:
    """What is remembered of a target, a slot for each frame; bounded by ``trim``.

    Args:
        frames: of the first clip that shows the target.
        tokens: (R, C) of its first appearance, which every slot of that clip gets; None where it is given by a text.
    """

    def __init__(self, frames: Sequence[int], tokens: VisualTokens | None = None) -> None:
        self.first = tokens
        self.tokens = {} if tokens is None else dict.fromkeys(frames, tokens)
        self._embeddings: dict[int, Tensor] = {}
        self._logits: dict[int, Tensor] = {}

    def reach(self, frame: int, recent: int = 1) -> None:
        """Open slots up to a frame: they inherit the latest tokens, and the mean of ``recent`` embeddings."""
        if self.tokens:
            newest = max(self.tokens)
            self.tokens |= dict.fromkeys(range(newest + 1, frame + 1), self.tokens[newest])
        for slot in range(max(self._embeddings, default=frame) + 1, frame + 1):
            self._embeddings[slot] = self.embeddings(recent).mean(0)

    def add(self, logits: dict[int, Tensor], embeddings: dict[int, Tensor]) -> None:
        """Sum up mask logits (h, w) over overlapping clips; embeddings (C,) become half old, half new."""
        for frame, new in logits.items():
            self._logits[frame] = self._logits.get(frame, 0.0) + new
        for frame, new in embeddings.items():
            self._embeddings[frame] = (self._embeddings.get(frame, new) + new) / 2

    def masks(self, frame: int) -> Tensor | None:
        """Mask logits (h, w), summed over clips; None where none looked."""
        return self._logits.get(frame)

    def embeddings(self, last: int) -> Tensor:
        """The latest embeddings (up to ``last``, C), oldest first."""
        return torch.stack([self._embeddings[frame] for frame in sorted(self._embeddings)[-last:]])

    def renew(self, frame: int, tokens: VisualTokens) -> None:
        """Put new tokens into a slot and all later ones; blank tokens change nothing."""
        if tokens.content.any():
            self.tokens |= {slot: tokens for slot in self.tokens if slot >= frame}

    def read(self, memory: int) -> VisualTokens:
        """What ProCA reads: tokens of the first appearance and of the last M slots, up to ((M + 1) R, C)."""
        assert self.first is not None
        parts = [self.first, *(self.tokens[slot] for slot in sorted(self.tokens)[-memory:])]
        return VisualTokens.joined(parts, torch.cat)

    def trim(self, memory: int, oldest: int) -> None:
        """Keep the last ``memory`` slots, and those of frames that are still open, from ``oldest`` on."""
        for slots in (self.tokens, self._embeddings):
            for frame in sorted(slots)[:-memory]:
                if frame < oldest:
                    del slots[frame]
        self._logits = {frame: kept for frame, kept in self._logits.items() if frame >= oldest}


def consistency(past: Tensor, now: Tensor) -> Tensor:
    """How alike a target's past embeddings (P, C), oldest first, and those of clips (..., T, C) are, (...).

    Cosine, averaged over the clip, weighted over the past by exp(5 i / P): the newest counts most.
    """
    cosine = F.normalize(now.float(), dim=-1) @ F.normalize(past.float(), dim=-1).T
    steps = torch.arange(1, len(past) + 1, device=past.device)
    return cosine.mean(-2) @ (5 * steps / len(past)).softmax(0)
