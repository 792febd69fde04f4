"""The memory pool of a target: prompt tokens and embeddings of past frames, and mask logits of pending frames.

Legend: T frames of a clip, R tokens of a frame, M frames of memory, P stored embeddings, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.univs.network.prompts import VisualTokens


class MemoryPool:
    """Memory of a target with one slot for each frame; ``trim`` bounds it.

    Args:
        frames: frames of the first clip that shows the target.
        tokens: (R, C), tokens of its first appearance, which all slots of that clip start with; None for expressions.
    """

    def __init__(self, frames: Sequence[int], tokens: VisualTokens | None = None) -> None:
        self.first_tokens = tokens
        self.tokens = {} if tokens is None else dict.fromkeys(frames, tokens)
        self._embeddings: dict[int, Tensor] = {}
        self._logits: dict[int, Tensor] = {}

    def extend(self, frame: int, recent: int = 1) -> None:
        """Add slots up to a frame, with the newest tokens and the mean of the newest embeddings.

        The decoder needs prompt tokens for the frames of a clip before it has predicted masks there: until then a
        target is assumed to look as it last did.

        Args:
            frame: last frame that gets a slot.
            recent: embeddings that the mean is taken over.
        """
        if self.tokens:
            newest = max(self.tokens)
            self.tokens |= dict.fromkeys(range(newest + 1, frame + 1), self.tokens[newest])
        for slot in range(max(self._embeddings, default=frame) + 1, frame + 1):
            self._embeddings[slot] = self.embeddings(recent).mean(0)

    def update(self, logits: dict[int, Tensor], embeddings: dict[int, Tensor]) -> None:
        """Add the predictions of a clip.

        A frame belongs to up to T overlapping clips. Its mask logits are summed over them; its embedding is a moving
        average with momentum 0.5.

        Args:
            logits: mask logits (h, w) by frame.
            embeddings: embeddings (C,) by frame.
        """
        for frame, mask in logits.items():
            self._logits[frame] = self._logits.get(frame, 0.0) + mask
        for frame, embedding in embeddings.items():
            self._embeddings[frame] = (self._embeddings.get(frame, embedding) + embedding) / 2

    def mask_logits(self, frame: int) -> Tensor | None:
        """Return the mask logits (h, w) of a frame, summed over clips, or None if no masks were added."""
        return self._logits.get(frame)

    def embeddings(self, count: int) -> Tensor:
        """Return the newest embeddings (P, C), at most ``count``, oldest first."""
        return torch.stack([self._embeddings[frame] for frame in sorted(self._embeddings)[-count:]])

    def replace_tokens(self, frame: int, tokens: VisualTokens) -> None:
        """Replace the tokens of a slot and of all later slots, unless the new tokens are blank.

        Args:
            frame: first slot to replace.
            tokens: (R, C).
        """
        if tokens.content.any():
            self.tokens |= {slot: tokens for slot in self.tokens if slot >= frame}

    def correct(self, frame: int, embedding: Tensor) -> None:
        """Replace the embedding of a frame (C,), and forget its mask logits."""
        self._logits.pop(frame, None)
        self._embeddings[frame] = embedding

    def give_tokens(self, frame: int, tokens: VisualTokens, frames: Sequence[int]) -> None:
        """Replace the tokens of a slot and of all later ones by those of the user's mask.

        The pool of an expression, which has none, gets them for all frames of the clip.

        Args:
            frame: of the mask.
            tokens: (R, C).
            frames: of the clip.
        """
        if self.first_tokens is None:
            self.first_tokens, self.tokens = tokens, dict.fromkeys(frames, tokens)
        self.replace_tokens(frame, tokens)

    def copy(self) -> MemoryPool:
        """Return a pool that changes independently of this one."""
        pool = copy(self)
        pool.tokens, pool._embeddings, pool._logits = dict(self.tokens), dict(self._embeddings), dict(self._logits)
        return pool

    def read(self, memory: int) -> VisualTokens:
        """Return the tokens that ProCA reads, at most ((M + 1) R, C): of the first appearance and the last M slots."""
        assert self.first_tokens is not None
        parts = [self.first_tokens, *(self.tokens[slot] for slot in sorted(self.tokens)[-memory:])]
        return VisualTokens.combine(parts, torch.cat)

    def trim(self, memory: int, oldest: int) -> None:
        """Drop old slots.

        Frames that are still pending keep theirs, as later clips will prompt with their tokens and add to their masks.

        Args:
            memory: newest slots to keep.
            oldest: oldest pending frame.
        """
        for slots in (self.tokens, self._embeddings):
            for frame in sorted(slots)[:-memory]:
                if frame < oldest:
                    del slots[frame]
        self._logits = {frame: logits for frame, logits in self._logits.items() if frame >= oldest}


def consistency(past: Tensor, current: Tensor) -> Tensor:
    """Return the similarity (...) of embeddings of a clip with past embeddings of a target.

    The cosine is averaged over the clip, and over the past with weights proportional to exp(5 i / P), i = 1 .. P: the
    newest embedding counts most.

    Args:
        past: (P, C), oldest first.
        current: (..., T, C).
    """
    cosine = F.normalize(current.float(), dim=-1) @ F.normalize(past.float(), dim=-1).T
    steps = torch.arange(1, len(past) + 1, device=past.device)
    return cosine.mean(-2) @ (5 * steps / len(past)).softmax(0)
