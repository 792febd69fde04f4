"""Region similarity J and boundary accuracy F, as the DAVIS benchmark defines them.

Source: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR 2016.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

TOLERANCE = 0.008  # of the image diagonal: the largest distance at which two boundary pixels match
BATCH = 64  # mask pairs a GPU takes at a time
CHUNK = 1 << 18  # boundary pixels matched at a time, which bounds the memory of a noisy mask
Runs = Sequence[tuple[int, int, int]]  # (dy, lo, hi): the offsets (dy, lo), (dy, lo + 1), ..., (dy, hi)


def region_similarity(pred: Tensor, target: Tensor, void: Tensor | None = None) -> Tensor:
    """Intersection over union; 1 where both masks are empty.

    Args:
        pred: predicted masks.
        target: annotated masks, same shape.
        void: pixels that count for neither mask, broadcastable to the masks.

    Shape:
        pred, target: bool (..., H, W). Returns float64 (...), in [0, 1].

    Raises:
        ValueError: masks that are not boolean or of different shapes; nothing is ever resized.
    """
    both, either = _per_pair(_overlap, _checked(pred, target, void))
    return torch.where(either > 0, both.double() / either.clamp(min=1), 1.0)


def boundary_accuracy(pred: Tensor, target: Tensor, void: Tensor | None = None, runs: Runs | None = None) -> Tensor:
    """F-measure of the boundary pixels, which match within ``boundary_tolerance`` of each other.

    It is decided by boundary pixels, not by area: a mask that fills the image has no boundary, so against an empty
    mask it scores 1. Arguments, shapes and errors are those of ``region_similarity``, and:

    Args:
        runs: where a match may lie, if not in the disk of ``boundary_tolerance``: the boundary pixel (y, x) of either
            map is matched if the other map has one at (y + dy, x + dx), lo <= dx <= hi, for some run (dy, lo, hi).
    """
    pair = _checked(pred, target, void)
    runs = disk_runs(boundary_tolerance(*pair.shape[-2:])) if runs is None else runs
    return _f_measure(*_per_pair(lambda pairs, ends: _matches(_boundaries(pairs, *ends), runs), pair).double())


def boundary_tolerance(height: int, width: int) -> int:
    """Matching distance in pixels for an image of this size, whatever the size of the object."""
    return math.ceil(TOLERANCE * math.hypot(height, width))


@cache
def disk_runs(radius: float) -> Runs:
    """The disk dy^2 + dx^2 <= radius^2 as runs (dy, lo, hi), top to bottom."""
    rows = range(-int(radius), int(radius) + 1)
    reaches = ((dy, int(math.sqrt(radius**2 - dy**2))) for dy in rows)
    return tuple((dy, -reach, reach) for dy, reach in reaches)


def _checked(pred: Tensor, target: Tensor, void: Tensor | None) -> Tensor:
    """The masks without their void pixels, stacked to (2, ..., H, W)."""
    if pred.dtype != torch.bool or target.dtype != torch.bool:
        raise ValueError(f"masks must be boolean, not {pred.dtype} and {target.dtype}")
    if pred.shape != target.shape or pred.ndim < 2:
        raise ValueError(f"masks must have one shape (..., H, W), not {tuple(pred.shape)} and {tuple(target.shape)}")
    pair = torch.stack([pred, target])
    return pair if void is None else pair & ~void


def _per_pair(count: Callable[[Tensor, tuple[bool, bool]], Tensor], pair: Tensor) -> Tensor:
    """Counts of mask pairs bool (2, batch, H, W), int64 (..., batch), by a function of (2, K, H, W) giving (..., K).

    The function is also told whether its part has the last row and the last column of the image. A GPU takes many pairs
    at once; on a CPU, where starting a kernel costs little, one pair at a time in the box around both is much faster.
    """
    batch, pairs = pair.shape[1:-2], pair.reshape(2, -1, *pair.shape[-2:])
    if pairs.is_cuda or not pairs.shape[1]:
        counts = [count(some, (True, True)) for some in pairs.split(BATCH, dim=1)]
    else:
        counts = [count(*_crop(one)) for one in pairs.split(1, dim=1)]
    joined = torch.cat(counts, dim=-1)
    return joined.reshape(*joined.shape[:-1], *batch)


def _crop(pair: Tensor) -> tuple[Tensor, tuple[bool, bool]]:
    """The box around both masks of (2, 1, H, W), and whether it has the last row and column.

    It starts one pixel above and left of the masks, where their boundary maps start.
    """
    marked = (pair[0, 0] | pair[1, 0]).view(torch.uint8)
    box = []
    for along in (marked.amax(1), marked.amax(0)):
        inside = along.nonzero()
        box.append(slice(max(int(inside[0]) - 1, 0), int(inside[-1]) + 1) if len(inside) else slice(0, 1))
    return pair[..., box[0], box[1]], (box[0].stop == marked.shape[0], box[1].stop == marked.shape[1])


def _overlap(pairs: Tensor, ends: tuple[bool, bool]) -> Tensor:
    """Areas of intersection and union, int64 (2, K)."""
    pred, target = pairs.flatten(2)
    return torch.stack([(pred & target).count_nonzero(-1), (pred | target).count_nonzero(-1)])


def _f_measure(hits: Tensor, totals: Tensor) -> Tensor:
    """F of matched (2, K) out of all (2, K) boundary pixels; rows are prediction and annotation."""
    # No boundary on one side: nothing to be wrong about there, so that side's ratio is 1, and the other's is 0.
    precision, recall = torch.where(totals > 0, hits / totals.clamp(min=1), 1.0)
    total = precision + recall
    return torch.where(total > 0, 2 * precision * recall / total.clamp(min=1e-300), 0.0)


def _boundaries(masks: Tensor, last_row: bool, last_column: bool) -> Tensor:
    """Boundary maps, one pixel wide on the top-left side of the edge, bool (..., H, W) of masks (..., H, W).

    A pixel is on the boundary if it differs from its right, lower or lower right neighbour. In the last row and column
    of the image only the neighbour along the border counts; ``last_row`` and ``last_column``: the crop has them.
    """
    padded = F.pad(masks, (0, 1, 0, 1))
    right, below = padded[..., :-1, 1:], padded[..., 1:, :-1]
    edges = (masks ^ right) | (masks ^ below) | (masks ^ padded[..., 1:, 1:])
    if last_row:
        edges[..., -1, :] = masks[..., -1, :] ^ right[..., -1, :]
    if last_column:
        edges[..., :, -1] = masks[..., :, -1] ^ below[..., :, -1]
    if last_row and last_column:
        edges[..., -1, -1] = False
    return edges


def _matches(edges: Tensor, runs: Runs) -> Tensor:
    """Boundary pixels that have one of the other map's in a run, and all of them.

    Equals dilating each map with the footprint and counting the other's pixels under it. A run holds a boundary pixel
    if the cumulative count differs between its ends: the maps are summed once and looked up at boundary pixels only.

    Shape:
        edges: bool (2, K, H, W). Returns int64 (2, 2, K): matched and all, each of both maps.
    """
    down, across = max(abs(dy) for dy, _, _ in runs), max(max(-lo, hi, 0) for _, lo, hi in runs)
    padded = F.pad(edges, (across, across, down, down))
    flat, stride = padded.flatten(), padded.shape[-1]
    count = F.pad(flat.cumsum(0, dtype=torch.int32), (1, 0))
    ends_of = [[dy * stride + lo, dy * stride + hi + 1] for dy, lo, hi in runs]
    starts, stops = torch.tensor(ends_of, dtype=torch.int32, device=edges.device).T[..., None]
    points = _nonzero(flat).int()
    half = flat.numel() // 2
    found = [points.new_zeros(0, dtype=torch.bool)]
    for part in points.split(CHUNK):
        centres = torch.where(part < half, part + half, part - half)
        before, after = (count.index_select(0, (centres + ends).flatten()) for ends in (starts, stops))
        found.append((after - before).view(len(runs), -1).amax(0) > 0)
    owner = points // math.prod(padded.shape[-2:])
    maps = 2 * edges.shape[1]
    counts = [torch.bincount(some, minlength=maps) for some in (owner[torch.cat(found)], owner)]
    return torch.stack(counts).view(2, 2, edges.shape[1])


def _nonzero(flat: Tensor) -> Tensor:
    """Indices of the true elements, int64, ascending; few in bool (L,), so whole words of 8 bytes are passed over."""
    flat = F.pad(flat, (0, -len(flat) % 8))
    words = flat.view(torch.int64).nonzero()
    bytes_of = words * 8 + torch.arange(8, device=flat.device)
    return bytes_of[flat.view(-1, 8)[words.squeeze(1)]]
