"""Which stored frame to give up for the current one: the smart memory of HQ-SMem (arXiv 2507.18921, eq. 3 to 7).

A policy that any memory bank can ask; it holds nothing itself. n: entries of a bank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import InputError


@dataclass(frozen=True)
class SmartMemory:
    """When a frame is stored, and in whose place.

    The paper's text has lost its formulae 5 and 7 and all values; both readings of each are here.

    Attributes:
        balance: λ of eq. 5, 0 to 1: relevance against age.
        threshold: τ_m of eq. 7, a cosine.
        max_frames: most entries, protected ones included.
        score: eq. 5, ``additive`` λ Rel + (1 - λ)(1 - Fr) or ``multiplicative`` Rel (1 - Fr)^λ.
        update: eq. 7, of the entry that scores highest. ``replace_if_redundant``: more similar than the threshold, it
            gives its place to the new frame; else the new one is added. ``store_if_novel``: a frame as similar as the
            threshold or more is not stored. In both a full bank gives up that entry for what is stored.
        age_unit: of Fr: ``frames`` (as printed) or memory ``updates``.

    Raises:
        InputError: a value out of its range.
    """

    balance: float = 0.5
    threshold: float = 0.9
    max_frames: int = 10
    score: Literal["additive", "multiplicative"] = "additive"
    update: Literal["replace_if_redundant", "store_if_novel"] = "replace_if_redundant"
    age_unit: Literal["frames", "updates"] = "frames"

    def __post_init__(self) -> None:
        if not 0 <= self.balance <= 1:
            raise InputError(f"smart memory: balance is {self.balance}; give 0 to 1")
        if self.max_frames < 1:
            raise InputError(f"smart memory: max_frames is {self.max_frames}; give at least 1")

    def scores(self, ages: Tensor, relevance: Tensor) -> Tensor:
        """Eq. 5, removal scores (n,) of ages (n,), at least 1, and relevance (n,), -1 to 1; the highest goes."""
        old = 1 - 1 / ages.to(relevance)
        if self.score == "additive":
            return self.balance * relevance + (1 - self.balance) * old
        return relevance * old**self.balance

    def choose(self, ages: Tensor, relevance: Tensor, protected: Tensor) -> Decision:
        """Eq. 6 and 7.

        Args:
            ages: (n,), at least 1, in ``age_unit``.
            relevance: float (n,), cosine of each entry with the current frame.
            protected: bool (n,), entries that are never removed: the reference frames.

        Returns:
            What to do; ties go to the first entry. A bank that protected entries fill stores nothing.
        """
        count = len(relevance)
        if bool(protected.all()):  # an empty bank too
            return Decision(None, count < self.max_frames)
        scores = self.scores(ages, relevance).masked_fill(protected, -torch.inf)
        worst = int(scores.argmax())
        redundant = float(relevance[worst]) > self.threshold
        if redundant and self.update == "store_if_novel":
            return Decision(None, False)
        full = count >= self.max_frames
        remove = worst if full or redundant else None
        # references that joined a full bank have made it too large: then one goes and none comes
        return Decision(remove, count - (remove is not None) < self.max_frames)


@dataclass(frozen=True)
class Decision:
    """What becomes of a bank.

    Attributes:
        remove: the entry that goes, if any.
        store: whether the current frame comes in.
    """

    remove: int | None
    store: bool


def relevance(stored: Sequence[Sequence[Tensor]], current: Sequence[Tensor]) -> Tensor:
    """Eq. 3, float (n,): cosine of each stored frame with the current one, mean over the parts of their description.

    Args:
        stored: n descriptions, each of as many vectors (C_k,) as ``current``.
        current: the parts: one embedding, or mean K and mean V of every layer.
    """
    return torch.stack(
        [
            F.cosine_similarity(torch.stack(part).float(), now[None].float())
            for part, now in zip(zip(*stored, strict=True), current, strict=True)
        ]
    ).mean(0)
