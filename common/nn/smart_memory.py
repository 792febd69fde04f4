"""The smart memory of HQ-SMem (arXiv 2507.18921, eq. 4 to 7), as an eviction policy for any memory bank.

Relevance (eq. 3) is the cosine between a stored frame and the current one, which the bank measures.

Legend: n frames of a bank, Rel relevance, Fr freshness.
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
    """Removes frames that are similar to the current one and old.

    Formulae 5 and 7 and all values are missing from the text of the paper; both readings of each formula are options.

    Attributes:
        balance: λ of eq. 5, in [0, 1], the weight of relevance against age.
        threshold: τ_m of eq. 7, a cosine; a frame with a higher relevance is redundant.
        score: removal score of eq. 5: ``additive`` is λ Rel + (1 - λ)(1 - Fr), ``multiplicative`` Rel (1 - Fr)^λ.
        update: rule of eq. 7 for the frame with the highest score. ``replace_if_redundant``: it is replaced by the new
            frame if it is redundant; else the new frame is added. ``store_if_novel``: the new frame is stored only if
            it is not redundant. With both rules, it is removed from a full bank when the new frame is stored.

    Raises:
        InputError: a balance outside [0, 1].
    """

    balance: float = 0.5
    threshold: float = 0.9
    score: Literal["additive", "multiplicative"] = "additive"
    update: Literal["replace_if_redundant", "store_if_novel"] = "replace_if_redundant"

    def __post_init__(self) -> None:
        if not 0 <= self.balance <= 1:
            raise InputError(f"smart memory: balance is {self.balance}; give 0 to 1")

    def scores(self, ages: Tensor, relevance: Tensor) -> Tensor:
        """Return the removal scores of eq. 5, float (n,).

        Args:
            ages: (n,), at least 1.
            relevance: float (n,), in [-1, 1].
        """
        staleness = 1 - 1 / ages.to(relevance)  # 1 - Fr, with Fr of eq. 4
        if self.score == "additive":
            return self.balance * relevance + (1 - self.balance) * staleness
        return relevance * torch.pow(staleness, self.balance)

    def choose(self, ages: Tensor, relevance: Tensor, protected: Tensor, capacity: int | None) -> Decision:
        """Decide by eq. 6 and 7, see ``MemoryPolicy.choose``; of ties the first frame is removed.

        A bank full of protected frames stores nothing.
        """
        count, limit = len(ages), float("inf") if capacity is None else capacity
        if bool(protected.all()):  # true for an empty bank as well
            return Decision(None, count < limit)
        highest = int(self.scores(ages, relevance).masked_fill(protected, -torch.inf).argmax())
        redundant = float(relevance[highest]) > self.threshold
        if redundant and self.update == "store_if_novel":
            return Decision(None, False)
        remove = highest if redundant or count >= limit else None
        # Reference frames are stored even in a full bank. Such a bank shrinks: one frame is removed, none is stored.
        return Decision(remove, count - (remove is not None) < limit)
