"""The arithmetic of SAM2Long on plain numbers: which candidates survive a frame, and the weights of memories."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from common.errors import InputError

LOG_EPSILON = 1e-5  # released code; the paper does not give it


@dataclass(frozen=True)
class TreeSettings:
    """Hyper-parameters of the memory tree; the defaults are the paper's.

    Attributes:
        pathways: P, number of pathways kept (Table 5).
        iou_threshold: δ_IoU; only frames of larger predicted IoU become memory (Table 6).
        confidence: δ_conf; a frame is certain if the largest absolute occlusion score of all pathways exceeds it
            (Table 7).
        modulation: [w_low, w_high], weights of memory keys by rank of occlusion score (Table 8); None = none.
        selection: object-aware memory selection; without it the newest frames are read, as in SAM 2.
        equation_variant: ``code`` = as released; ``paper`` = as the text has it (methods/sam2long/README.md lists the
            differences).

    Raises:
        InputError: less than one pathway, or an unknown variant.
    """

    pathways: int = 3
    iou_threshold: float = 0.3
    confidence: float = 2.0
    modulation: tuple[float, float] | None = (0.95, 1.05)
    selection: bool = True
    equation_variant: str = "code"

    presence: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        if self.pathways < 1:
            raise InputError(f"pathways is {self.pathways}; a tree needs at least 1")
        if self.equation_variant not in ("code", "paper"):
            raise InputError(f"equation_variant is {self.equation_variant!r}; choose code or paper")


@dataclass
class Pick:
    """A candidate chosen to continue a pathway.

    Attributes:
        pathway: index of the pathway.
        candidate: index of its candidate.
        total: cumulative score S of the pathway with this candidate (equation 2).
        value: predicted IoU, negative where the object is absent; candidates of equal value count as the same.
    """

    pathway: int
    candidate: int
    total: float
    value: float


def pick_candidates(
    totals: Sequence[float], ious: Sequence[Sequence[float]], scores: Sequence[float], settings: TreeSettings
) -> list[Pick]:
    """Choose P of the P x K candidates (paper, equations 2 to 4).

    Args:
        totals: S of each pathway.
        ious: predicted IoUs of each pathway's candidates.
        scores: occlusion score of each pathway.
        settings: of the tree.

    Returns:
        P picks, best first. On a certain frame these are the P largest S + ln(IoU + ε), ties to the lower pathway and
        candidate. On an uncertain frame candidates must differ in IoU, rounded to two digits; if these are fewer than
        P, pathways without a pick follow, then the best of the rest.
    """
    count = settings.pathways
    paper = settings.equation_variant == "paper"
    picks = [
        Pick(p, k, total + math.log(iou + LOG_EPSILON), iou if score > 0 or paper else -iou)
        for p, (total, row, score) in enumerate(zip(totals, ious, scores, strict=True))
        for k, iou in enumerate(row)
    ]
    picks.sort(key=lambda pick: -pick.total)
    if max(abs(score) for score in scores) > settings.confidence:
        return picks[:count]
    chosen: list[Pick] = []
    seen: set[float] = set()
    for pick in picks:
        if round(pick.value, 2) not in seen:
            seen.add(round(pick.value, 2))
            chosen.append(pick)
    chosen = chosen[:count]
    if not paper:  # the released code continues every pathway before it continues one twice
        for pathway in range(len(totals)):
            if len(chosen) < count and all(pick.pathway != pathway for pick in chosen):
                chosen.append(next(pick for pick in picks if pick.pathway == pathway))
    spare = (pick for pick in picks if pick not in chosen)
    return chosen + [next(spare) for _ in range(min(count, len(picks)) - len(chosen))]


def rank_weights(scores: Sequence[float], low: float, high: float) -> Tensor:
    """Assign the weights linspace(low, high, n) to n scores in ascending order (paper, equation 6): float (n,)."""
    weights = torch.empty(len(scores))
    weights[torch.tensor(scores).argsort(stable=True)] = torch.linspace(low, high, len(scores))
    return weights
