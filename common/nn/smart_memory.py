"""The smart memory of HQ-SMem (arXiv 2507.18921, eq. 4 to 7): a policy for any memory bank.

Eq. 3, the relevance of a stored frame, is the cosine that the bank measures. n: frames of a bank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from common.errors import InputError
from common.nn.memory_policy import Decision


@dataclass(frozen=True)
class SmartMemory:
    """Similar and old frames go first.

    The text of the paper has lost its formulae 5 and 7 and all values; both readings of each are here.

    Attributes:
        balance: λ of eq. 5, 0 to 1: relevance against age.
        threshold: τ_m of eq. 7, a cosine.
        score: eq. 5, ``additive`` λ Rel + (1 - λ)(1 - Fr) or ``multiplicative`` Rel (1 - Fr)^λ.
        update: eq. 7, by the frame that scores highest. ``replace_if_redundant``: more similar than the threshold, it
            gives its place to the new frame; else the new one is added. ``store_if_novel``: a frame to which it is as
            similar is not stored. In both a full bank gives it up for what is stored.

    Raises:
        InputError: a balance out of its range.
    """

    balance: float = 0.5
    threshold: float = 0.9
    score: Literal["additive", "multiplicative"] = "additive"
    update: Literal["replace_if_redundant", "store_if_novel"] = "replace_if_redundant"

    def __post_init__(self) -> None:
        if not 0 <= self.balance <= 1:
            raise InputError(f"smart memory: balance is {self.balance}; give 0 to 1")

    def scores(self, ages: Tensor, relevance: Tensor) -> Tensor:
        """Eq. 4 and 5: removal scores (n,) of ages (n,), at least 1, and relevance (n,), -1 to 1."""
        old = 1 - 1 / ages.to(relevance)
        if self.score == "additive":
            return self.balance * relevance + (1 - self.balance) * old
        return relevance * old**self.balance

    def choose(self, ages: Tensor, relevance: Tensor, protected: Tensor, capacity: int | None) -> Decision:
        """Eq. 6 and 7, see ``MemoryPolicy``; ties go to the first frame.

        A bank full of protected frames stores nothing.
        """
        count, limit = len(ages), float("inf") if capacity is None else capacity
        if bool(protected.all()):  # an empty bank too
            return Decision(None, count < limit)
        highest = int(self.scores(ages, relevance).masked_fill(protected, -torch.inf).argmax())
        redundant = float(relevance[highest]) > self.threshold
        if redundant and self.update == "store_if_novel":
            return Decision(None, False)
        remove = highest if redundant or count >= limit else None
        # reference frames that joined a full bank have made it too large: then one goes and none comes
        return Decision(remove, count - (remove is not None) < limit)
