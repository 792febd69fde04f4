"""ReID losses: embeddings of one target are alike, those of different targets are not.

Legend: A anchors, M columns, C channels. ``same`` bool (A, M): anchor and column are the same target.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

NEGATIVES, OBJECTS = 20, 0.75  # columns drawn, share of them that show a target
POSITIVES, COLUMNS = 3, 30  # between clips
_LARGEST = 10.0


def similarity(anchors: Tensor, columns: Tensor) -> Tensor:
    """Scaled dot products (A, M)."""
    return anchors @ columns.T / math.sqrt(anchors.shape[1])


def contrastive(similar: Tensor, positives: Tensor, negative: Tensor) -> Tensor:
    """log(1 + Σ over negatives n and positives p of exp(min(s_n - s_p, 10))), mean over anchors.

    Args:
        similar: (A, M).
        positives: similarities (A, P) to what is like the anchor.
        negative: bool (A, M).
    """
    gaps = (similar[:, :, None] - positives[:, None]).clamp(max=_LARGEST)
    return (gaps.exp() * negative[:, :, None]).sum((1, 2)).log1p().mean()


def cosine(anchors: Tensor, columns: Tensor, same: Tensor) -> Tensor:
    """Smooth L1 between the cosine, at least 0, and ``same``; summed, over the number of anchors."""
    cosines = (F.normalize(anchors, dim=-1) @ F.normalize(columns, dim=-1).T).clamp(min=0)
    return F.smooth_l1_loss(cosines, same.to(cosines.dtype), reduction="sum") / max(1, len(anchors))


def pair_losses(anchors: Tensor, columns: Tensor, anchor_ids: Tensor, column_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Contrastive and cosine loss of anchors (A, C) to columns (M, C); zero where no anchor has its like.

    The two positives of an anchor are its first like column and the mean of all. Negatives are found among up to 20
    columns (at most three for each anchor), 75 % of which show a target.

    Args:
        anchor_ids: int64 (A,), at least 0.
        column_ids: int64 (M,), -1 for a column that shows no target.
    """
    same = anchor_ids[:, None] == column_ids
    kept = same.any(1) if same.shape[1] else same.new_zeros(len(same))
    anchors, same = anchors[kept], same[kept]
    if not len(anchors):
        nothing = (anchors.sum() + columns.sum()) * 0
        return nothing, nothing
    similar = similarity(anchors, columns)
    first = similar.gather(1, same.int().argmax(1, keepdim=True))
    mean = (similar * same).sum(1, keepdim=True) / same.sum(1, keepdim=True)
    count = min(NEGATIVES, 3 * len(anchors))
    objects = int(OBJECTS * count)
    drawn = torch.cat([_draw(column_ids >= 0, objects), _draw(column_ids < 0, count - objects)])
    loss = contrastive(similar[:, drawn], torch.cat([first, mean], 1), ~same[:, drawn])
    some = _draw(torch.ones_like(column_ids, dtype=torch.bool), NEGATIVES)
    return loss, cosine(anchors, columns[some], same[:, some])


def clip_losses(pool: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Both losses between the clips of a video: one random anchor a target, 3 random positives, 30 random columns.

    Args:
        pool: (M, C), embeddings of all clips.
        ids: int64 (M,), their targets.
    """
    anchors, positives = [], []
    for target in ids.unique():
        members = _draw(ids == target, POSITIVES + 1)
        if len(members) > 1:
            anchors.append(members[0])
            positives.append(members[1 + torch.arange(POSITIVES, device=pool.device) % (len(members) - 1)])
    if not anchors:
        return pool.sum() * 0, pool.sum() * 0
    chosen, drawn = torch.stack(anchors), _draw(torch.ones_like(ids, dtype=torch.bool), COLUMNS)
    similar, same = similarity(pool[chosen], pool), ids[chosen][:, None] == ids[drawn]
    loss = contrastive(similar[:, drawn], similar.gather(1, torch.stack(positives)), ~same)
    return loss, cosine(pool[chosen], pool[drawn], same)


def _draw(which: Tensor, count: int) -> Tensor:
    """Up to ``count`` random places where ``which`` is True."""
    places = which.nonzero()[:, 0]
    return places[torch.randperm(len(places), device=places.device)[:count]]
