"""Detections among the learnable queries, and which of them are entities that are already known.

Legend: K candidates, E entities, T frames of the clip, P past frames, C channels.
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from methods.univs.inference.mask_ops import box_iou, mask_iou
from methods.univs.inference.settings import EntitySettings


def suppress(overlaps: Tensor, limit: float) -> Tensor:
    """Which of K candidates remain, bool (K,), the best first: those that overlap no better one by more than ``limit``.

    As released, in one step: a candidate that is dropped drops others too.

    Args:
        overlaps: IoU (K, K).
    """
    return ~(overlaps.triu(1) > limit).any(0)


def candidates(probs: Tensor, masks: Tensor, quality: Tensor, stuff: Tensor, settings: EntitySettings) -> Tensor:
    """Learnable queries that may be entities, int64 (K,), the best first; things before stuff.

    Args:
        probs: class probabilities (Q, classes) times quality.
        masks: bool (Q, T, h, w).
        quality: of the masks (Q,).
        stuff: bool (classes,), classes that cannot be counted.
    """
    score, category = probs.max(1)
    is_stuff = stuff[category]
    stable = (quality > settings.stability) & masks.flatten(1).any(1)
    chosen = []
    for kind, most in ((~is_stuff, settings.things), (is_stuff, settings.stuff)):
        rows = score.masked_fill(~(kind & stable), -1).argsort(descending=True, stable=True)
        rows = rows[: int((kind & stable).sum())][:most]
        if kind is is_stuff:
            kept = suppress(mask_iou(masks[rows, 0], masks[rows, 0]), settings.stuff_overlap)
        else:
            kept = suppress(box_iou(masks[rows]), settings.overlap) if len(rows) else rows > 0
        chosen.append(rows[kept])
    return torch.cat(chosen)


def bi_softmax(past: Tensor, now: Tensor) -> Tensor:
    """How surely candidates (K, T, C) are entities (E, P, C), (E, K), at most 1.

    Raw dot products for each pair of a past frame and a frame of the clip; softmax over candidates and over entities,
    averaged; mean over the pairs.
    """
    dots = torch.einsum("epc,ktc->ptek", past, now)
    return ((dots.softmax(-1) + dots.softmax(-2)) / 2).mean((0, 1))


def match(similarity: Tensor, least: float) -> list[tuple[int, int]]:
    """Pairs of entity and candidate with the largest sum of similarity (E, K); only those of more than ``least``."""
    kept = similarity.masked_fill(similarity <= least, 0.0)
    rows, columns = linear_sum_assignment(kept.cpu().numpy(), maximize=True)
    return [(int(e), int(k)) for e, k in zip(rows, columns, strict=True) if kept[e, k] > 0]
