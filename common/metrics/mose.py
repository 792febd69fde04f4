"""The measures of MOSE v2 as a torchmetric: a boundary tolerance that shrinks with the object, and its returns.

Source: Ding et al., "MOSEv2: A More Challenging Dataset for Video Object Segmentation in Complex Scenes", arXiv
2508.05630; where it leaves something open, what the public scorer does.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

from common.metrics.functional import TOLERANCE, Runs, boundary_accuracy, disk_runs
from common.metrics.rows import RowMetric

SIZE_TOLERANCE = 0.1  # of the root of an object's area: the tolerance of Fdot where that is smaller
NUMBERS = ("J", "Fdot", "F", "J_d", "Fdot_d", "J_r", "Fdot_r")


class MOSEv2Metrics(RowMetric):
    """J and Fdot of MOSE v2, flat over all objects; the same where objects have vanished and have come back.

    Give it scored frames only: MOSE leaves out the first and the last. ``compute`` returns fractions: ``J&Fdot``, its
    parts ``J`` (a smoothed J, written J') and ``Fdot``, the ordinary ``F`` and ``J&F``; then ``J&Fdot_d``, ``J_d``,
    ``Fdot_d`` over times of absence and ``J&Fdot_r``, ``J_r``, ``Fdot_r`` over times after a return, both without
    times that have begun before the first scored frame and only over objects that have any.

    Args:
        mosev2_compat: see ``adaptive_boundary_accuracy``; for ``update``.
        kwargs: those of ``torchmetrics.Metric``.
    """

    def __init__(self, mosev2_compat: bool = True, **kwargs: Any) -> None:
        super().__init__(len(NUMBERS), **kwargs)
        self.mosev2_compat = mosev2_compat

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add the N objects of one video: boolean masks (T, N, H, W)."""
        f_dot, f = adaptive_boundary_accuracy(preds, target, self.mosev2_compat)
        self.extend(smoothed_similarity(preds, target), f_dot, f, target.flatten(2).any(2).double())

    def extend(self, j: Tensor, f_dot: Tensor, f: Tensor, present: Tensor) -> None:
        """Add the N objects of one video whose frames are already measured.

        Args:
            j: (T, N); NaN where the frame does not count for the object. Without any such frame it is left out.
            f_dot: likewise.
            f: likewise.
            present: (T, N), 1 where the object is annotated, else 0.
        """
        if j.ndim != 2 or not j.shape == f_dot.shape == f.shape == present.shape:
            shapes = ", ".join(str(tuple(values.shape)) for values in (j, f_dot, f, present))
            raise ValueError(f"J, Fdot, F and present must all be (T, N), not {shapes}")
        for values, there in zip(torch.stack([j, f_dot, f], 1).double().unbind(2), present.T, strict=True):
            counted = ~values[:, 0].isnan()
            values, there = values[counted], there[counted] > 0
            if len(values):
                gone, back = (segment_mean(values[:, :2], wanted) for wanted in (~there, there))
                self.add(torch.cat([values.mean(0), gone, back])[None])

    def compute(self) -> dict[str, Tensor]:
        """The table's numbers as float64 scalars; NaN where no object has any."""
        out = dict(zip(NUMBERS, self.sorted_rows().nanmean(0), strict=True))
        both = {f"J&Fdot{when}": (out[f"J{when}"] + out[f"Fdot{when}"]) / 2 for when in ("", "_d", "_r")}
        overall = {"J&Fdot": both["J&Fdot"], "J": out["J"], "Fdot": out["Fdot"], "F": out["F"]}
        return {**overall, "J&F": (out["J"] + out["F"]) / 2, **both, **out}


def smoothed_similarity(pred: Tensor, target: Tensor) -> Tensor:
    """J', intersection plus one over union plus one, 1 where both masks are empty: float64 (...) of (..., H, W)."""
    both, either = (masks.flatten(-2).sum(-1).double() for masks in (pred & target, pred | target))
    return (both + 1) / (either + 1)


def adaptive_boundary_accuracy(pred: Tensor, target: Tensor, mosev2_compat: bool = True) -> tuple[Tensor, Tensor]:
    """Fdot and F: boundary accuracy with a tolerance fit to each object's size, and with the ordinary one.

    Args:
        pred: predicted masks, bool (..., H, W).
        target: annotated masks, same shape.
        mosev2_compat: do as the public scorer: for objects too large for a smaller tolerance Fdot and F are the same,
            and match within ``sampled_disk_runs`` of a radius that is no whole number. Otherwise both match in centred
            disks, and F is that of DAVIS for every object.

    Returns:
        float64 (...) each.
    """
    size, shape = pred.shape[-2:], pred.shape[:-2]
    preds, targets = pred.reshape(-1, *size), target.reshape(-1, *size)
    largest = TOLERANCE * math.hypot(*size)
    areas = targets.flatten(1).sum(1).tolist()
    radii = [min(largest, math.ceil(SIZE_TOLERANCE * math.sqrt(area))) if area else largest for area in areas]
    by_object = torch.tensor(radii, dtype=torch.float64, device=pred.device)
    f_dot = torch.zeros_like(by_object)
    for radius in set(radii):
        rows = by_object == radius
        runs = sampled_disk_runs(radius) if mosev2_compat else disk_runs(radius)
        f_dot[rows] = boundary_accuracy(preds[rows], targets[rows], runs=runs)
    f = f_dot.clone()
    ordinary = by_object < (largest if mosev2_compat else math.inf)
    f[ordinary] = boundary_accuracy(preds[ordinary], targets[ordinary])
    return f_dot.reshape(shape), f.reshape(shape)


@cache
def sampled_disk_runs(radius: float) -> Runs:
    """The disk of a radius sampled at -radius, -radius + 1, ... up to radius + 1, as runs around the middle sample.

    For a whole radius it is ``disk_runs``. For another the middle sample is not the disk's centre, so the footprint
    lies to one side, and at 1.0 to 1.17 (images of 125 to 146 pixels' diagonal) not even a pixel matches itself. Below
    0.59, where no sample lies in the disk, it is that pixel.
    """
    count = math.ceil(2 * radius + 1)
    runs = []
    for row in range(count):
        inside = [column for column in range(count) if (column - radius) ** 2 + (row - radius) ** 2 <= radius**2]
        if inside:
            runs.append((row - count // 2, inside[0] - count // 2, inside[-1] - count // 2))
    return tuple(runs) or ((0, 0, 0),)


def segment_mean(values: Tensor, wanted: Tensor) -> Tensor:
    """Mean over frames, then over runs of wanted frames, without a run that the first frame belongs to.

    Shape:
        values: (T, K). wanted: bool (T,). Returns (K,), NaN without any run.
    """
    begins = torch.cat([torch.zeros_like(wanted[:1]), wanted[1:] & ~wanted[:-1]])
    number = begins.cumsum(0) * wanted  # 0: not wanted, or in the run of the first frame
    means = [values[number == run].mean(0) for run in range(1, int(begins.sum()) + 1)]
    return torch.stack(means).mean(0) if means else values.new_full(values.shape[1:], torch.nan)
