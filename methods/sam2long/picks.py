"""Which candidates survive a frame, and how memories are weighed: the arithmetic of SAM2Long on plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.errors import InputError

LOG_EPSILON = 1e-5  # released code; the paper does not give it


@dataclass(frozen=True)
class TreeSettings:
    """Hyper-parameters of the tree; the defaults are the paper's.

    Attributes:
        pathways: P, pathways kept alive (Table 5).
        iou_threshold: δ_IoU, a memory frame needs a larger predicted IoU (Table 6).
        confidence: δ_conf; a frame is certain if some pathway's \\|occlusion score\\| is larger (Table 7).
        modulation: [w_low, w_high], key weights by rank of occlusion score (Table 8); None = none.
        selection: object-aware memory selection; without it memory is SAM 2's, the newest frames.
        reading: ``code`` = as released; ``paper`` = as the text has it (methods/sam2long/README.md lists both).
    """

    pathways: int = 3
    iou_threshold: float = 0.3
    confidence: float = 2.0
    modulation: tuple[float, float] | None = (0.95, 1.05)
    selection: bool = True
    reading: str = "code"

    def __post_init__(self) -> None:
        if self.pathways < 1:
            raise InputError(f"pathways is {self.pathways}; a tree needs at least 1")
        if self.reading not in ("code", "paper"):
            raise InputError(f"reading is {self.reading!r}; choose code or paper")


@dataclass
class Pick:
    """Candidate ``candidate`` of pathway ``pathway``, the S that it brings, and what tells it from others."""

    pathway: int
    candidate: int
    total: float
    value: float  # predicted IoU, negative where the object is absent


def pick_candidates(
    totals: Sequence[float], ious: Sequence[Sequence[float]], scores: Sequence[float], settings: TreeSettings
) -> list[Pick]:
    """Choose P of the P x K candidates (paper, equations 2 to 4).

    Args:
        totals: S of each pathway.
        ious: predicted IoUs of each pathway's candidates.
        scores: occlusion score of each pathway.

    Returns:
        P picks, best first. Certain frame: the P largest S + ln(IoU + ε), ties to the lower pathway and candidate.
        Uncertain frame: only candidates of a new IoU, rounded to two digits; then pathways without any, then the rest.
    """
    count = settings.pathways
    paper = settings.reading == "paper"
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
    if not paper:  # the released code represents every pathway before it repeats one
        for pathway in range(len(totals)):
            if len(chosen) < count and all(pick.pathway != pathway for pick in chosen):
                chosen.append(next(pick for pick in picks if pick.pathway == pathway))
    spare = (pick for pick in picks if pick not in chosen)
    return chosen + [next(spare) for _ in range(min(count, len(picks)) - len(chosen))]


def rank_weights(scores: Sequence[float], low: float, high: float) -> Tensor:
    """Weights float (n,): linspace(low, high, n) in ascending order of the scores (paper, equation 6)."""
    weights = torch.empty(len(scores))
    weights[torch.tensor(scores).argsort(stable=True)] = torch.linspace(low, high, len(scores))
    return weights
