"""J and F of many pairs of masks at once, for a GPU; nothing leaves it.

The host waits only for what it must know to go on: how many boundary pixels there are, in ``nonzero``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Runs = Sequence[tuple[int, int, int]]  # (dy, lo, hi): the offsets (dy, lo), (dy, lo + 1), ..., (dy, hi)

PIXELS = 1 << 25  # of one side's masks taken at a time: 80 at 480p


def count(pred: Tensor, target: Tensor, void: Tensor | None = None, runs: Runs | None = None) -> Tensor:
    """Areas of intersection and union; with ``runs`` also boundary pixels, matched and all.

    Shape:
        pred, target: bool (..., H, W), ``void`` broadcastable to them. Returns int64 (2, ...), or (6, ...) with
        ``runs``: the areas, the matched boundary pixels of both maps, all boundary pixels of both maps.
    """
    pair = torch.stack([pred, target])
    pair = pair if void is None else pair & ~void
    batch, pairs = pair.shape[1:-2], pair.reshape(2, math.prod(pair.shape[1:-2]), *pair.shape[-2:])
    counts = []
    for some in pairs.split(max(1, PIXELS // math.prod(pair.shape[-2:])), dim=1):
        counts.append(_areas(some) if runs is None else torch.cat([_areas(some), _matches(_boundaries(some), runs)]))
    return torch.cat(counts, dim=1).view(2 if runs is None else 6, *batch)


def _areas(pairs: Tensor) -> Tensor:
    pred, target = pairs.flatten(2)
    return torch.stack([(pred & target).count_nonzero(-1), (pred | target).count_nonzero(-1)])


def _boundaries(masks: Tensor) -> Tensor:
    """Boundary maps, one pixel wide on the top-left side of the edge, bool (..., H, W) of masks (..., H, W).

    A pixel is on the boundary if it differs from its right, lower or lower right neighbour. In the last row and column
    of the image only the neighbour along the border counts.
    """
    padded = F.pad(masks, (0, 1, 0, 1))
    right, below = padded[..., :-1, 1:], padded[..., 1:, :-1]
    edges = (masks ^ right) | (masks ^ below) | (masks ^ padded[..., 1:, 1:])
    edges[..., -1, :] = masks[..., -1, :] ^ right[..., -1, :]
    edges[..., :, -1] = masks[..., :, -1] ^ below[..., :, -1]
    edges[..., -1, -1] = False
    return edges


def _matches(edges: Tensor, runs: Runs) -> Tensor:
    """Boundary pixels that have one of the other map's in a run, and all of them.

    Equals dilating each map with the footprint and counting the other's pixels under it. A run holds a boundary pixel
    if the cumulative count differs between its ends: the maps are summed once and looked up at boundary pixels only.

    Shape:
        edges: bool (2, K, H, W). Returns int64 (4, K): matched of both maps, all of both maps.
    """
    down, across = max(abs(dy) for dy, _, _ in runs), max(max(-lo, hi) for _, lo, hi in runs)
    padded = F.pad(edges, (across, across, down, down))
    flat, stride = padded.flatten(), padded.shape[-1]
    before = F.pad(flat.cumsum(0, dtype=torch.int32), (1, 0))
    points = _nonzero(flat).int()
    half = flat.numel() // 2
    centres = torch.where(points < half, points + half, points - half)
    found = torch.zeros_like(points, dtype=torch.bool)
    for dy, lo, hi in runs:  # plain numbers: a table of them on the GPU would be a copy that the host waits for
        start, stop = (before.index_select(0, centres + (dy * stride + end)) for end in (lo, hi + 1))
        found |= start != stop
    # The points are in the order of the maps, so a map's own are those between two places.
    corners = torch.arange(2 * edges.shape[1] + 1, device=edges.device) * math.prod(padded.shape[-2:])
    places = torch.searchsorted(points, corners.int())
    counts = [F.pad(found.cumsum(0), (1, 0))[places].diff(), places.diff()]
    return torch.stack(counts).view(4, edges.shape[1])


def _nonzero(flat: Tensor) -> Tensor:
    """Indices of the true elements, int64, ascending; few in bool (L,), so whole words of 8 bytes are passed over."""
    flat = F.pad(flat, (0, -len(flat) % 8))
    words = flat.view(torch.int64).nonzero()
    bytes_of = words * 8 + torch.arange(8, device=flat.device)
    return bytes_of[flat.view(-1, 8)[words.squeeze(1)]]
