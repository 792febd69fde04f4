"""J&F of video object segmentation as a torchmetric."""

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

    Give it scored frames only: DAVIS leaves out the first and the last frame of a video. ``compute`` returns fractions,
    not percent: ``J&F``, ``J`` and ``F`` (the means), ``J_recall``, ``J_decay``, ``F_recall``, ``F_decay``, and the
    means again as ``J_mean`` and ``F_mean``.

    Args:
        wrap_uint8: number the bins of the decay in 8 bits as davis2017-evaluation does. It changes only videos of more
            than 256 scored frames, and makes their decay wrong or NaN; use it to compare with that tool.
        kwargs: those of ``torchmetrics.Metric``.
    """

    def __init__(self, wrap_uint8: bool = False, **kwargs: Any) -> None:
        super().__init__(2 * len(STATISTICS), **kwargs)
        self.wrap_uint8 = wrap_uint8

    def update(self, preds: Tensor, target: Tensor, void: Tensor | None = None) -> None:
        """Add the N objects of one video: boolean masks (T, N, H, W); ``void`` broadcastable to them is left out."""
        self.extend(*j_and_f(preds, target, void))

    def extend(self, j: Tensor, f: Tensor) -> None:
        """Add the N objects of one video whose frames are already measured: float64 (T, N) each.

        NaN: the frame does not count for the object. An object for which no frame counts is left out.
        """
        if j.ndim != 2 or j.shape != f.shape or not len(j):
            raise ValueError(f"J and F must both be (T, N) with T > 0, not {tuple(j.shape)} and {tuple(f.shape)}")
        counted = ~j.isnan().all(0)
        rows = [per_object(values[:, counted].double(), self.wrap_uint8) for values in (j, f)]
        self.add(torch.cat(rows, dim=1))

    def compute(self) -> dict[str, Tensor]:
        """The table's numbers as float64 scalars; NaN before the first object."""
        values = self.sorted_rows().mean(0)
        names = [f"{measure}_{statistic}" for measure in "JF" for statistic in STATISTICS]
        out = dict(zip(names, values, strict=True))
        return {"J&F": (out["J_mean"] + out["F_mean"]) / 2, "J": out["J_mean"], "F": out["F_mean"], **out}


def per_object(values: Tensor, wrap_uint8: bool = False) -> Tensor:
    """Mean, recall and decay over frames, float64 (N, 3) of (T, N); frames that are NaN do not count.

    The decay is the mean of the first quarter of the frames minus the mean of the last, so positive means getting
    worse; neighbouring quarters share the frame between them.
    """
    if values.isnan().any():
        each = [per_object(one[~one.isnan()][:, None], wrap_uint8) for one in values.T]
        return torch.cat(each)
    # The small number pushes exact halves up, as in the DAVIS tools, where ``round`` alone would go to the even one.
    edges = [round(1 + k * (len(values) - 1) / 4 + 1e-10) - 1 for k in range(5)]
    if wrap_uint8:
        edges = [edge % 256 for edge in edges]
    first, last = values[edges[0] : edges[1] + 1], values[edges[3] : edges[4] + 1]
    return torch.stack([values.mean(0), (values > RECALL_THRESHOLD).double().mean(0), first.mean(0) - last.mean(0)], 1)
