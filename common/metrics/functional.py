"""Region similarity J and boundary accuracy F, as the DAVIS benchmark defines them.

Source: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR 2016.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TOLERANCE = 0.008  # of the image diagonal: the largest distance at which two boundary pixels match
CHUNK = 1 << 18  # boundary pixels matched at a time, which bounds the memory of a noisy mask


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
    pred, target = _checked(pred, target, void)
    both = (pred & target).flatten(-2).sum(-1)
    either = (pred | target).flatten(-2).sum(-1)
    return torch.where(either > 0, both.double() / either.clamp(min=1), 1.0)


def boundary_accuracy(pred: Tensor, target: Tensor, void: Tensor | None = None) -> Tensor:
    """F-measure of the boundary pixels, which match within ``boundary_tolerance`` of each other.

    It is decided by boundary pixels, not by area: a mask that fills the image has no boundary, so against an empty
    mask it scores 1. Arguments, shapes and errors are those of ``region_similarity``.
    """
    pred, target = _checked(pred, target, void)
    height, width = pred.shape[-2:]
    radius = boundary_tolerance(height, width)
    pairs = torch.stack([pred.reshape(-1, height, width), target.reshape(-1, height, width)])
    if pairs.is_cuda or not pairs.shape[1]:
        counts = _matches(_boundaries(pairs, True, True), radius)
    else:  # where starting a kernel costs little, each pair in its own bounding box is much faster
        counts = torch.cat([_cropped_matches(pair, radius) for pair in pairs.split(1, dim=1)], dim=-1)
    return _f_measure(*counts.double()).reshape(pred.shape[:-2])


def boundary_tolerance(height: int, width: int) -> int:
    """Matching distance in pixels for an image of this size, whatever the size of the object."""
    return math.ceil(TOLERANCE * math.hypot(height, width))


def _checked(pred: Tensor, target: Tensor, void: Tensor | None) -> tuple[Tensor, Tensor]:
    """The masks without their void pixels."""
    if pred.dtype != torch.bool or target.dtype != torch.bool:
        raise ValueError(f"masks must be boolean, not {pred.dtype} and {target.dtype}")
    if pred.shape != target.shape or pred.ndim < 2:
        raise ValueError(f"masks must have one shape (..., H, W), not {tuple(pred.shape)} and {tuple(target.shape)}")
    return (pred, target) if void is None else (pred & ~void, target & ~void)


def _f_measure(hits: Tensor, totals: Tensor) -> Tensor:
    """F of matched (2, K) out of all (2, K) boundary pixels; rows are prediction and annotation."""
    # No boundary on one side: nothing to be wrong about there, so that side's ratio is 1, and the other's is 0.
    precision, recall = torch.where(totals > 0, hits / totals.clamp(min=1), 1.0)
    total = precision + recall
    return torch.where(total > 0, 2 * precision * recall / total.clamp(min=1e-300), 0.0)


def _cropped_matches(pair: Tensor, radius: int) -> Tensor:
    """``_matches`` of one pair, bool (2, 1, H, W), inside the box that holds both masks."""
    either = pair[0, 0] | pair[1, 0]
    rows, columns = either.any(1).nonzero(), either.any(0).nonzero()
    if not len(rows):
        return torch.zeros(2, 2, 1, dtype=torch.int64, device=pair.device)
    # The boundary map marks pixels up to one above and left of the mask.
    top, bottom = max(int(rows[0]) - 1, 0), int(rows[-1]) + 1
    left, right = max(int(columns[0]) - 1, 0), int(columns[-1]) + 1
    crop = pair[..., top:bottom, left:right]
    return _matches(_boundaries(crop, bottom == pair.shape[-2], right == pair.shape[-1]), radius)


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


def _matches(edges: Tensor, radius: int) -> Tensor:
    """Boundary pixels that lie within ``radius`` of the other map's, and all of them.

    Equals dilating each map with the disk dy^2 + dx^2 <= radius^2 and counting the other's pixels under it. A disk is a
    run of pixels in each row, and a run holds a boundary pixel if the cumulative count differs between its ends: the
    maps are summed once and looked up at boundary pixels only.

    Shape:
        edges: bool (2, K, H, W). Returns int64 (2, 2, K): matched and all, each of both maps.
    """
    padded = F.pad(edges, (radius,) * 4)
    flat = padded.flatten()
    size = math.prod(padded.shape[-2:])
    count = F.pad(flat.cumsum(0, dtype=torch.int32), (1, 0))
    rows = torch.arange(-radius, radius + 1, device=edges.device)
    reach = (radius**2 - rows**2).double().sqrt().floor().long()[:, None]
    rows = rows[:, None] * padded.shape[-1]
    points = flat.nonzero().squeeze(1)
    half = flat.numel() // 2
    found = []
    for part in points.split(CHUNK):
        centres = torch.where(part < half, part + half, part - half) + rows
        found.append((count[centres + reach + 1] > count[centres - reach]).any(0))
    owner = points // size
    totals = torch.bincount(owner, minlength=2 * edges.shape[1])
    hits = torch.bincount(owner[torch.cat(found)] if found else owner, minlength=2 * edges.shape[1])
    return torch.stack([hits, totals]).view(2, 2, edges.shape[1])
