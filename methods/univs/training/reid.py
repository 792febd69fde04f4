"""ReID losses: embeddings of one target should be similar, those of different targets should not.

Legend: A anchors, M columns (embeddings that anchors are compared with), S positives of an anchor, C channels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

NEGATIVES, OBJECT_SHARE = 20, 0.75  # columns drawn, and the share of them that show a target
CLIP_POSITIVES, CLIP_COLUMNS = 3, 30  # of the losses between clips
_MAX_GAP = 10.0  # of similarities, before the exponential


def scaled_similarity(anchors: Tensor, columns: Tensor) -> Tensor:
    """Return dot products (A, M) of anchors (A, C) and columns (M, C), divided by the square root of C."""
    return anchors @ columns.T / math.sqrt(anchors.shape[1])


def contrastive_loss(similarity: Tensor, positives: Tensor, negative: Tensor) -> Tensor:
    """Return log(1 + Σ over negatives n and positives p of exp(min(s_n - s_p, 10))), mean over anchors.

    Args:
        similarity: s of anchors and columns (A, M).
        positives: s of anchors and their positives (A, S).
        negative: bool (A, M), True for columns that are negatives of the anchor.
    """
    gaps = (similarity[:, :, None] - positives[:, None]).clamp(max=_MAX_GAP)
    return (gaps.exp() * negative[:, :, None]).sum((1, 2)).log1p().mean()


def cosine_loss(anchors: Tensor, columns: Tensor, same: Tensor) -> Tensor:
    """Return the smooth L1 loss between cosines, clamped at 0, and ``same``; the sum divided by the anchors.

    Args:
        anchors: (A, C).
        columns: (M, C).
        same: bool (A, M), True for pairs of the same target.
    """
    cosines = (F.normalize(anchors, dim=-1) @ F.normalize(columns, dim=-1).T).clamp(min=0)
    return F.smooth_l1_loss(cosines, same.to(cosines.dtype), reduction="sum") / max(1, len(anchors))


def reid_losses(anchors: Tensor, columns: Tensor, anchor_ids: Tensor, column_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the contrastive and the cosine loss of anchors to columns; zero if no anchor has a positive.

    Negatives are found among at most 20 columns (and at most three for each anchor), 75 % of which show a target.

    Args:
        anchors: (A, C).
        columns: (M, C).
        anchor_ids: int64 (A,), targets of the anchors, at least 0.
        column_ids: int64 (M,), targets of the columns; -1 for a column that shows no target.
    """
    same = anchor_ids[:, None] == column_ids
    matched = same.any(1) if same.shape[1] else same.new_zeros(len(same))
    anchors, same = anchors[matched], same[matched]
    if not len(anchors):
        # zero, but connected to the network: in distributed training every parameter must receive a gradient
        zero = (anchors.sum() + columns.sum()) * 0
        return zero, zero
    similarity = scaled_similarity(anchors, columns)
    # An anchor has many positives, one for each frame and query of its target. As released it is pulled to two: the
    # first of them, and their mean, which is that of the similarities as dot products are linear.
    first = similarity.gather(1, same.int().argmax(1, keepdim=True))
    mean = (similarity * same).sum(1, keepdim=True) / same.sum(1, keepdim=True)
    count = min(NEGATIVES, 3 * len(anchors))
    objects = int(OBJECT_SHARE * count)
    drawn = torch.cat([_draw(column_ids >= 0, objects), _draw(column_ids < 0, count - objects)])
    contrast = contrastive_loss(similarity[:, drawn], torch.cat([first, mean], 1), ~same[:, drawn])
    compared = _draw(torch.ones_like(column_ids, dtype=torch.bool), NEGATIVES)
    return contrast, cosine_loss(anchors, columns[compared], same[:, compared])


def cross_clip_losses(embeddings: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the contrastive and the cosine loss between the clips of a video.

    Each target has one random anchor, which is compared with 3 random positives and 30 random columns.

    Args:
        embeddings: (M, C), of all clips.
        ids: int64 (M,), their targets.
    """
    anchors, positives = [], []
    targets: Tensor = torch.unique(ids)
    for target in targets:
        members = _draw(ids == target, CLIP_POSITIVES + 1)
        if len(members) > 1:
            anchors.append(members[0])
            # a target with fewer positives repeats them, so that all anchors have the same number
            positives.append(members[1 + torch.arange(CLIP_POSITIVES, device=ids.device) % (len(members) - 1)])
    if not anchors:
        return embeddings.sum() * 0, embeddings.sum() * 0
    chosen, drawn = torch.stack(anchors), _draw(torch.ones_like(ids, dtype=torch.bool), CLIP_COLUMNS)
    similarity = scaled_similarity(embeddings[chosen], embeddings)
    same = ids[chosen][:, None] == ids[drawn]
    contrast = contrastive_loss(similarity[:, drawn], similarity.gather(1, torch.stack(positives)), ~same)
    return contrast, cosine_loss(embeddings[chosen], embeddings[drawn], same)


def _draw(mask: Tensor, count: int) -> Tensor:
    """At most ``count`` random indices where ``mask`` is True."""
    places = mask.nonzero()[:, 0]
    return places[torch.randperm(len(places), device=places.device)[:count]]
