"""Region similarity J and boundary accuracy F, as the DAVIS benchmark defines them.

Source: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR 2016.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from common.metrics import jf_batched_gpu, jf_packed_cpu
from common.metrics.jf_batched_gpu import Runs

TOLERANCE = 0.008  # of the image diagonal: the largest distance at which two boundary pixels match


def j_and_f(pred: Tensor, target: Tensor, void: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Compute J and F together, at the cost of F alone.

    Masks on a GPU are processed there; the host synchronises only to learn the number of boundary pixels.

    Args:
        pred: predicted masks.
        target: annotated masks, same shape.
        void: pixels excluded from both masks, broadcastable to the masks.

    Shape:
        pred, target: bool (..., H, W). Returns J and F, float64 (...) each, on the device of the masks.
    """
    counts = _counts(pred, target, void, disk_runs(boundary_tolerance(*pred.shape[-2:])))
    return _iou(counts), _f_measure(counts)


def region_similarity(pred: Tensor, target: Tensor, void: Tensor | None = None) -> Tensor:
    """Compute the region similarity J, the intersection over union; 1 where both masks are empty.

    Args:
        pred: predicted masks.
        target: annotated masks, same shape.
        void: pixels excluded from both masks, broadcastable to the masks.

    Shape:
        pred, target: bool (..., H, W). Returns float64 (...), in [0, 1].

    Raises:
        ValueError: the masks are not boolean or differ in shape; masks are never resized.
    """
    return _iou(_counts(pred, target, void))


def boundary_accuracy(pred: Tensor, target: Tensor, void: Tensor | None = None, runs: Runs | None = None) -> Tensor:
    """Compute the boundary accuracy F, the F-measure of boundary pixels that match within a distance.

    It depends on boundary pixels only, not on area: a mask that fills the image has no boundary and scores 1 against an
    empty mask.

    Args:
        pred: predicted masks.
        target: annotated masks, same shape.
        void: pixels excluded from both masks, broadcastable to the masks.
        runs: matching footprint; default: the disk of radius ``boundary_tolerance``. Boundary pixel (y, x) of either
            map is matched if the other map has one at (y + dy, x + dx), lo <= dx <= hi, for some run (dy, lo, hi).
            An asymmetric footprint is applied to both maps as it is, not mirrored.

    Shape:
        pred, target: bool (..., H, W). Returns float64 (...), in [0, 1].

    Raises:
        ValueError: the masks are not boolean or differ in shape, or the footprint is empty.
    """
    runs = disk_runs(boundary_tolerance(*pred.shape[-2:])) if runs is None else runs
    return _f_measure(_counts(pred, target, void, runs))


def boundary_tolerance(height: int, width: int) -> int:
    """Return the matching distance in pixels: 0.8 % of the image diagonal, rounded up.

    Args:
        height: height of the image.
        width: width of the image.
    """
    return math.ceil(TOLERANCE * math.hypot(height, width))


@cache
def disk_runs(radius: float) -> Runs:
    """Return the disk dy^2 + dx^2 <= radius^2 as runs (dy, lo, hi), top to bottom.

    Args:
        radius: in pixels.
    """
    rows = range(-int(radius), int(radius) + 1)
    reaches = ((dy, int(math.sqrt(radius**2 - dy**2))) for dy in rows)
    return tuple((dy, -reach, reach) for dy, reach in reaches)


def _counts(pred: Tensor, target: Tensor, void: Tensor | None, runs: Runs | None = None) -> Tensor:
    """Check the arguments and count pixels with the implementation for the masks' device."""
    if pred.dtype != torch.bool or target.dtype != torch.bool:
        raise ValueError(f"masks must be boolean, not {pred.dtype} and {target.dtype}")
    if pred.shape != target.shape or pred.ndim < 2 or 0 in pred.shape[-2:]:
        raise ValueError(f"masks must have one shape (..., H, W), not {tuple(pred.shape)} and {tuple(target.shape)}")
    if runs is not None and (not len(runs) or any(lo > hi for _, lo, hi in runs)):
        raise ValueError("a footprint needs at least one run (dy, lo, hi), each with lo <= hi")
    count = jf_packed_cpu.count if pred.device.type == "cpu" else jf_batched_gpu.count
    return count(pred, target, void, runs)


def _iou(counts: Tensor) -> Tensor:
    intersection, union = counts[:2]
    return torch.where(union > 0, intersection.double() / union.clamp(min=1), 1.0)


def _f_measure(counts: Tensor) -> Tensor:
    matched, boundary = counts[2:4].double(), counts[4:6].double()
    # Without a predicted boundary no boundary pixel is wrong: precision is 1, and recall is 0. Likewise for the target.
    precision, recall = torch.where(boundary > 0, matched / boundary.clamp(min=1), 1.0)
    total = precision + recall
    return torch.where(total > 0, 2 * precision * recall / total.clamp(min=1e-300), 0.0)
