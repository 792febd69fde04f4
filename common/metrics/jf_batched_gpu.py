"""Pixel counts of J and F for batches of masks on a GPU.

All data stays on the device. The host synchronises only in ``nonzero``, to learn the number of boundary pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Runs = Sequence[tuple[int, int, int]]  # (dy, lo, hi): the offsets (dy, lo), (dy, lo + 1), ..., (dy, hi)

PIXELS = 1 << 25  # per chunk and side: 80 masks at 480p


def count(pred: Tensor, target: Tensor, void: Tensor | None = None, runs: Runs | None = None) -> Tensor:
    """Count the pixels of intersection and union, and with ``runs`` matched and total boundary pixels.

    Args:
        pred: predicted masks, bool (..., H, W).
        target: annotated masks, bool (..., H, W).
        void: bool, pixels excluded from both, broadcastable to the masks.
        runs: matching footprint, see ``functional.boundary_accuracy``.

    Returns:
        int64 (2, ...): intersection, union. With ``runs`` (6, ...): also matched boundary pixels of prediction and
        target, and all boundary pixels of prediction and target.
    """
    pair = torch.stack([pred, target])
    pair = pair if void is None else pair & ~void
    batch, pairs = pair.shape[1:-2], pair.reshape(2, math.prod(pair.shape[1:-2]), *pair.shape[-2:])
    counts = []
    for chunk in torch.split(pairs, max(1, PIXELS // math.prod(pair.shape[-2:])), dim=1):
        areas = _areas(chunk)
        counts.append(areas if runs is None else torch.cat([areas, _matches(_boundaries(chunk), runs)]))
    return torch.cat(counts, dim=1).view(2 if runs is None else 6, *batch)


def _areas(pairs: Tensor) -> Tensor:
    pred, target = pairs.flatten(2)
    return torch.stack([(pred & target).count_nonzero(-1), (pred | target).count_nonzero(-1)])


def _boundaries(masks: Tensor) -> Tensor:
    """Return boundary maps of masks (..., H, W), bool (..., H, W), one pixel wide on the top-left side of edges.

    A pixel is on the boundary if it differs from its right, lower or lower-right neighbour. In the last row and column
    of the image only the neighbour along the border is compared.
    """
    padded = F.pad(masks, (0, 1, 0, 1))
    right, below = padded[..., :-1, 1:], padded[..., 1:, :-1]
    edges = (masks ^ right) | (masks ^ below) | (masks ^ padded[..., 1:, 1:])
    edges[..., -1, :] = masks[..., -1, :] ^ right[..., -1, :]
    edges[..., :, -1] = masks[..., :, -1] ^ below[..., :, -1]
    edges[..., -1, -1] = False
    return edges


def _matches(edges: Tensor, runs: Runs) -> Tensor:
    """Count matched and all boundary pixels of maps bool (2, K, H, W): int64 (4, K).

    This equals dilating each map with the footprint and counting the other map's pixels under it. A run contains a
    boundary pixel if the cumulative count differs between its ends, so the maps are summed once and the sums are read
    at boundary pixels only.
    """
    down, across = max(abs(dy) for dy, _, _ in runs), max(max(-lo, hi) for _, lo, hi in runs)
    padded = F.pad(edges, (across, across, down, down))
    flat, stride = padded.flatten(), padded.shape[-1]
    before = F.pad(flat.cumsum(0, dtype=torch.int32), (1, 0))
    points = _nonzero(flat).int()
    half = flat.numel() // 2
    # The same position in the other map: the two maps are the two halves of the flat tensor.
    centres = torch.where(points < half, points + half, points - half)
    matched = torch.zeros_like(points, dtype=torch.bool)
    for dy, lo, hi in runs:  # Python numbers: a tensor of them would be a synchronising copy to the GPU
        start, stop = (before.index_select(0, centres + (dy * stride + end)) for end in (lo, hi + 1))
        matched |= start != stop
    # Points are sorted by map, so the points of each map lie between two boundaries.
    starts = torch.arange(2 * edges.shape[1] + 1, device=edges.device) * math.prod(padded.shape[-2:])
    bounds = torch.searchsorted(points, starts.int())
    counts = [F.pad(matched.cumsum(0), (1, 0))[bounds].diff(), bounds.diff()]
    return torch.stack(counts).view(4, edges.shape[1])


def _nonzero(flat: Tensor) -> Tensor:
    """Return the indices of the true elements of bool (L,), ascending, skipping empty words of 8 bytes at a time."""
    flat = F.pad(flat, (0, -len(flat) % 8))
    words = flat.view(torch.int64).nonzero()
    indices = words * 8 + torch.arange(8, device=flat.device)
    return indices[flat.view(-1, 8)[words.squeeze(1)]]
