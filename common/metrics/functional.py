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
    """J and F, ``region_similarity`` and ``boundary_accuracy``, for the price of F.

    Masks on a GPU are measured there and so are the results; the host waits only to learn how many boundary pixels
    there are.
    """
    counts = _counts(pred, target, void, disk_runs(boundary_tolerance(*pred.shape[-2:])))
    return _iou(counts), _f_measure(counts)


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
    return _iou(_counts(pred, target, void))


def boundary_accuracy(pred: Tensor, target: Tensor, void: Tensor | None = None, runs: Runs | None = None) -> Tensor:
    """F-measure of the boundary pixels, which match within ``boundary_tolerance`` of each other.

    It is decided by boundary pixels, not by area: a mask that fills the image has no boundary, so against an empty
    mask it scores 1. Arguments, shapes and errors are those of ``region_similarity``, and:

    Args:
        runs: where a match may lie, if not in the disk of ``boundary_tolerance``: the boundary pixel (y, x) of either
            map is matched if the other map has one at (y + dy, x + dx), lo <= dx <= hi, for some run (dy, lo, hi).
            So the footprint need not be symmetric, and both maps are looked at with the same one, not its mirror image.
    """
    runs = disk_runs(boundary_tolerance(*pred.shape[-2:])) if runs is None else runs
    return _f_measure(_counts(pred, target, void, runs))


def boundary_tolerance(height: int, width: int) -> int:
    """Matching distance in pixels for an image of this size, whatever the size of the object."""
    return math.ceil(TOLERANCE * math.hypot(height, width))


@cache
def disk_runs(radius: float) -> Runs:
    """The disk dy^2 + dx^2 <= radius^2 as runs (dy, lo, hi), top to bottom."""
    rows = range(-int(radius), int(radius) + 1)
    reaches = ((dy, int(math.sqrt(radius**2 - dy**2))) for dy in rows)
    return tuple((dy, -reach, reach) for dy, reach in reaches)


def _counts(pred: Tensor, target: Tensor, void: Tensor | None, runs: Runs | None = None) -> Tensor:
    """``jf_batched_gpu.count``, or the same by ``jf_packed_cpu.count`` for masks on a CPU."""
    if pred.dtype != torch.bool or target.dtype != torch.bool:
        raise ValueError(f"masks must be boolean, not {pred.dtype} and {target.dtype}")
    if pred.shape != target.shape or pred.ndim < 2 or 0 in pred.shape[-2:]:
        raise ValueError(f"masks must have one shape (..., H, W), not {tuple(pred.shape)} and {tuple(target.shape)}")
    if runs is not None and (not len(runs) or any(lo > hi for _, lo, hi in runs)):
        raise ValueError("a footprint needs at least one run (dy, lo, hi), each with lo <= hi")
    return (jf_packed_cpu if pred.device.type == "cpu" else jf_batched_gpu).count(pred, target, void, runs)


def _iou(counts: Tensor) -> Tensor:
    both, either = counts[:2]
    return torch.where(either > 0, both.double() / either.clamp(min=1), 1.0)


def _f_measure(counts: Tensor) -> Tensor:
    hits, totals = counts[2:4].double(), counts[4:6].double()
    # No boundary on one side: nothing to be wrong about there, so that side's ratio is 1, and the other's is 0.
    precision, recall = torch.where(totals > 0, hits / totals.clamp(min=1), 1.0)
    total = precision + recall
    return torch.where(total > 0, 2 * precision * recall / total.clamp(min=1e-300), 0.0)
