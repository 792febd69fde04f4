"""J&F of video object segmentation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from common.metrics.functional import j_and_f
from common.metrics.rows import RowMetric

RECALL_THRESHOLD = 0.5
STATISTICS = ("mean", "recall", "decay")


class JAndF(RowMetric):
    """Mean, recall and decay of J and F, averaged flat over all objects of all videos (DAVIS 2017, semi-supervised).

    Pass scored frames only: DAVIS excludes the first and the last frame of a video. ``compute`` returns fractions, not
    percent: ``J&F``, ``J`` and ``F`` (the means), ``J_recall``, ``J_decay``, ``F_recall``, ``F_decay``, and the means
    again as ``J_mean`` and ``F_mean``.

    Args:
        wrap_uint8: store the bin edges of the decay in 8 bits like davis2017-evaluation. This affects only videos of
            more than 256 scored frames, whose decay becomes wrong or NaN; use it for comparison with that tool.
        kwargs: arguments of ``torchmetrics.Metric``.
    """

    def __init__(self, wrap_uint8: bool = False, **kwargs: Any) -> None:
        super().__init__(2 * len(STATISTICS), **kwargs)
        self.wrap_uint8 = wrap_uint8

    def update(self, preds: Tensor, target: Tensor, void: Tensor | None = None) -> None:
        """Add the N objects of one video.

        Args:
            preds: predicted masks, bool (T, N, H, W).
            target: annotated masks, bool (T, N, H, W).
            void: bool, pixels excluded from both, broadcastable to the masks.
        """
        self.extend(*j_and_f(preds, target, void))

    def extend(self, j: Tensor, f: Tensor) -> None:
        """Add the N objects of one video from per-frame values. An object without any scored frame is skipped.

        Args:
            j: float64 (T, N); NaN where the frame does not count for the object.
            f: float64 (T, N); NaN where the frame does not count for the object.

        Raises:
            ValueError: the shapes do not match, or T is 0.
        """
        if j.ndim != 2 or j.shape != f.shape or not len(j):
            raise ValueError(f"J and F must both be (T, N) with T > 0, not {tuple(j.shape)} and {tuple(f.shape)}")
        counted = ~j.isnan().all(0)
        rows = [per_object(values[:, counted].double(), self.wrap_uint8) for values in (j, f)]
        self.add(torch.cat(rows, dim=1))

    def compute(self) -> dict[str, Tensor]:
        """Return the numbers as float64 scalars; NaN before the first object."""
        values = self.sorted_rows().mean(0)
        names = [f"{measure}_{statistic}" for measure in "JF" for statistic in STATISTICS]
        out = dict(zip(names, values, strict=True))
        return {"J&F": (out["J_mean"] + out["F_mean"]) / 2, "J": out["J_mean"], "F": out["F_mean"], **out}


def per_object(values: Tensor, wrap_uint8: bool = False) -> Tensor:
    """Compute mean, recall and decay over frames.

    The decay is the mean over the first quarter of the frames minus the mean over the last quarter; neighbouring
    quarters share a frame.

    Args:
        values: (T, N); NaN where a frame does not count.
        wrap_uint8: see ``JAndF``.

    Returns:
        float64 (N, 3).
    """
    if values.isnan().any():
        each = [per_object(column[~column.isnan()][:, None], wrap_uint8) for column in values.T]
        return torch.cat(each)
    # The small offset rounds exact halves up like the DAVIS tools; ``round`` alone would round them to even.
    edges = [round(1 + k * (len(values) - 1) / 4 + 1e-10) - 1 for k in range(5)]
    if wrap_uint8:
        edges = [edge % 256 for edge in edges]
    first, last = values[edges[0] : edges[1] + 1], values[edges[3] : edges[4] + 1]
    return torch.stack([values.mean(0), (values > RECALL_THRESHOLD).double().mean(0), first.mean(0) - last.mean(0)], 1)
