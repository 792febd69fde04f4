"""Measures of MOSE v2: J and F with an adaptive boundary tolerance, also after disappearance and reappearance.

Source: Ding et al., "MOSEv2: A More Challenging Dataset for Video Object Segmentation in Complex Scenes", arXiv
2508.05630. Details that it leaves open follow the public scorer.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

from common.metrics.functional import TOLERANCE, boundary_accuracy, disk_runs
from common.metrics.jf_batched_gpu import Runs
from common.metrics.rows import RowMetric

SIZE_TOLERANCE = 0.1  # of the square root of an object's area: upper limit of the tolerance of Fdot
NUMBERS = ("J", "Fdot", "F", "J_d", "Fdot_d", "J_r", "Fdot_r")


class MOSEv2Metrics(RowMetric):
    """J and Fdot of MOSE v2, averaged flat over all objects, also over intervals of disappearance and reappearance.

    Pass scored frames only: MOSE excludes the first and the last. ``compute`` returns fractions: ``J&Fdot``, its parts
    ``J`` (the smoothed J') and ``Fdot``, the ordinary ``F`` and ``J&F``; then ``J&Fdot_d``, ``J_d``, ``Fdot_d`` over
    intervals of absence, and ``J&Fdot_r``, ``J_r``, ``Fdot_r`` over intervals after a reappearance. Intervals that
    begin before the first scored frame, and objects without intervals, are excluded from the latter two.

    Args:
        official_compat: used by ``update``, see ``adaptive_boundary_accuracy``.
        kwargs: arguments of ``torchmetrics.Metric``.
    """

    def __init__(self, official_compat: bool = True, **kwargs: Any) -> None:
        super().__init__(len(NUMBERS), **kwargs)
        self.official_compat = official_compat

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add the N objects of one video.

        Args:
            preds: predicted masks, bool (T, N, H, W).
            target: annotated masks, bool (T, N, H, W).
        """
        f_dot, f = adaptive_boundary_accuracy(preds, target, self.official_compat)
        self.extend(smoothed_similarity(preds, target), f_dot, f, target.flatten(2).any(2).double())

    def extend(self, j: Tensor, f_dot: Tensor, f: Tensor, present: Tensor) -> None:
        """Add the N objects of one video from per-frame values. An object without any scored frame is skipped.

        Args:
            j: (T, N), smoothed J; NaN where the frame does not count for the object.
            f_dot: (T, N), Fdot; NaN where the frame does not count for the object.
            f: (T, N), F; NaN where the frame does not count for the object.
            present: (T, N), 1 where the object is annotated, else 0.

        Raises:
            ValueError: the shapes do not match.
        """
        if j.ndim != 2 or not j.shape == f_dot.shape == f.shape == present.shape:
            shapes = ", ".join(str(tuple(values.shape)) for values in (j, f_dot, f, present))
            raise ValueError(f"J, Fdot, F and present must all be (T, N), not {shapes}")
        for values, visible in zip(torch.stack([j, f_dot, f], 1).double().unbind(2), present.T, strict=True):
            counted = ~values[:, 0].isnan()
            values, visible = values[counted], visible[counted] > 0
            if len(values):
                disappeared, reappeared = (segment_mean(values[:, :2], selected) for selected in (~visible, visible))
                self.add(torch.cat([values.mean(0), disappeared, reappeared])[None])

    def compute(self) -> dict[str, Tensor]:
        """Return the numbers as float64 scalars; NaN where no object contributes."""
        out = dict(zip(NUMBERS, self.sorted_rows().nanmean(0), strict=True))
        both = {f"J&Fdot{when}": (out[f"J{when}"] + out[f"Fdot{when}"]) / 2 for when in ("", "_d", "_r")}
        overall = {"J&Fdot": both["J&Fdot"], "J": out["J"], "Fdot": out["Fdot"], "F": out["F"]}
        return {**overall, "J&F": (out["J"] + out["F"]) / 2, **both, **out}


def smoothed_similarity(pred: Tensor, target: Tensor) -> Tensor:
    """Compute J' = (intersection + 1) / (union + 1); 1 where both masks are empty.

    Args:
        pred: predicted masks, bool (..., H, W).
        target: annotated masks, bool (..., H, W).

    Returns:
        float64 (...).
    """
    intersection, union = (masks.flatten(-2).sum(-1).double() for masks in (pred & target, pred | target))
    return (intersection + 1) / (union + 1)


def adaptive_boundary_accuracy(pred: Tensor, target: Tensor, official_compat: bool = True) -> tuple[Tensor, Tensor]:
    """Compute Fdot and F: boundary accuracy with a tolerance adapted to the object's size, and the ordinary one.

    Args:
        pred: predicted masks, bool (..., H, W).
        target: annotated masks, same shape.
        official_compat: reproduce the public scorer. For objects too large for a reduced tolerance, Fdot and F are then
            equal and match within ``sampled_disk_runs`` of a fractional radius. Otherwise both match in centred disks,
            and F is that of DAVIS for every object.

    Returns:
        Fdot and F, float64 (...) each.
    """
    size, shape = pred.shape[-2:], pred.shape[:-2]
    preds, targets = pred.reshape(-1, *size), target.reshape(-1, *size)
    largest = TOLERANCE * math.hypot(*size)
    areas = targets.flatten(1).sum(1).tolist()
    radii = [min(largest, math.ceil(SIZE_TOLERANCE * math.sqrt(area))) if area else largest for area in areas]
    object_radii = torch.tensor(radii, dtype=torch.float64, device=pred.device)
    f_dot = torch.zeros_like(object_radii)
    # Objects of one radius are measured together: the footprint is an argument of the whole batch.
    for radius in set(radii):
        rows = object_radii == radius
        runs = sampled_disk_runs(radius) if official_compat else disk_runs(radius)
        f_dot[rows] = boundary_accuracy(preds[rows], targets[rows], runs=runs)
    f = f_dot.clone()
    ordinary = object_radii < (largest if official_compat else math.inf)
    f[ordinary] = boundary_accuracy(preds[ordinary], targets[ordinary])
    return f_dot.reshape(shape), f.reshape(shape)


@cache
def sampled_disk_runs(radius: float) -> Runs:
    """Return the disk sampled at -radius, -radius + 1, ... up to radius + 1, as runs around the middle sample.

    For an integer radius this is ``disk_runs``. For a fractional radius the middle sample is not the centre of the
    disk, so the footprint is shifted; between 1.0 and 1.17 (image diagonals of 125 to 146 pixels) a pixel does not even
    match itself. Below 0.59 no sample lies in the disk, and the footprint is the pixel itself.

    Args:
        radius: in pixels.
    """
    count = math.ceil(2 * radius + 1)
    runs = []
    for row in range(count):
        inside = [column for column in range(count) if (column - radius) ** 2 + (row - radius) ** 2 <= radius**2]
        if inside:
            runs.append((row - count // 2, inside[0] - count // 2, inside[-1] - count // 2))
    return tuple(runs) or ((0, 0, 0),)


def segment_mean(values: Tensor, selected: Tensor) -> Tensor:
    """Average over the frames of each run of selected frames, then over runs, without a run that starts at frame 0.

    Args:
        values: (T, K).
        selected: bool (T,).

    Returns:
        (K,), NaN without any run.
    """
    begins = torch.cat([torch.zeros_like(selected[:1]), selected[1:] & ~selected[:-1]])
    number = begins.cumsum(0) * selected  # 0: not selected, or in the run of the first frame
    means = [values[number == run].mean(0) for run in range(1, int(begins.sum()) + 1)]
    return torch.stack(means).mean(0) if means else values.new_full(values.shape[1:], torch.nan)
