"""J&F of video object segmentation as a torchmetric."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from common.metrics.functional import boundary_accuracy, region_similarity
from common.metrics.gather import gather_rows

RECALL_THRESHOLD = 0.5
STATISTICS = ("mean", "recall", "decay")


class JAndF(Metric):
    """Mean, recall and decay of J and F, averaged flat over all objects of all videos (DAVIS 2017, semi-supervised).

    Give it scored frames only: DAVIS leaves out the first and the last frame of a video. ``compute`` returns fractions,
    not percent: ``J&F``, ``J`` and ``F`` (the means), ``J_recall``, ``J_decay``, ``F_recall``, ``F_decay``, and the
    means again as ``J_mean`` and ``F_mean``. The order in which videos come, and which process measures them, does not
    change a digit.

    Args:
        wrap_uint8: number the bins of the decay in 8 bits as davis2017-evaluation does. It changes only videos of more
            than 256 scored frames, and makes their decay wrong or NaN; use it to compare with that tool.
        kwargs: those of ``torchmetrics.Metric``.
    """

    full_state_update = False
    objects: Tensor

    def __init__(self, wrap_uint8: bool = False, **kwargs: Any) -> None:
        super().__init__(**{"dist_sync_fn": gather_rows, **kwargs})
        self.wrap_uint8 = wrap_uint8
        # A tensor and not a list: a process that has seen no video must still take part in the gathering.
        self.add_state("objects", torch.zeros(0, 2 * len(STATISTICS), dtype=torch.float64), dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor, void: Tensor | None = None) -> None:
        """Add the N objects of one video: boolean masks (T, N, H, W); ``void`` broadcastable to them is left out."""
        self._add(region_similarity(preds, target, void), boundary_accuracy(preds, target, void))

    def extend(self, j: Tensor, f: Tensor) -> None:
        """Add the N objects of one video whose frames are already measured: float64 (T, N) each."""
        self._computed = None  # what torchmetrics does itself around ``update``, and only there
        self._update_count += 1
        self._add(j, f)

    def compute(self) -> dict[str, Tensor]:
        """The table's numbers as float64 scalars; NaN before the first object."""
        # Sorted, so that the rounding of the sum does not depend on the order of arrival.
        values = self.objects.reshape(-1, 2 * len(STATISTICS)).sort(dim=0).values.mean(0)
        names = [f"{measure}_{statistic}" for measure in "JF" for statistic in STATISTICS]
        out = dict(zip(names, values, strict=True))
        return {"J&F": (out["J_mean"] + out["F_mean"]) / 2, "J": out["J_mean"], "F": out["F_mean"], **out}

    def _add(self, j: Tensor, f: Tensor) -> None:
        if j.ndim != 2 or j.shape != f.shape or not len(j):
            raise ValueError(f"J and F must both be (T, N) with T > 0, not {tuple(j.shape)} and {tuple(f.shape)}")
        rows = [per_object(values.double(), self.wrap_uint8) for values in (j, f)]
        self.objects = torch.cat([self.objects, torch.cat(rows, dim=1).to(self.objects.device)])


def per_object(values: Tensor, wrap_uint8: bool = False) -> Tensor:
    """Mean, recall and decay over frames, float64 (N, 3) of (T, N).

    The decay is the mean of the first quarter of the frames minus the mean of the last, so positive means getting
    worse; neighbouring quarters share the frame between them.
    """
    # The small number pushes exact halves up, as in the DAVIS tools, where ``round`` alone would go to the even one.
    edges = [round(1 + k * (len(values) - 1) / 4 + 1e-10) - 1 for k in range(5)]
    if wrap_uint8:
        edges = [edge % 256 for edge in edges]
    first, last = values[edges[0] : edges[1] + 1], values[edges[3] : edges[4] + 1]
    return torch.stack([values.mean(0), (values > RECALL_THRESHOLD).double().mean(0), first.mean(0) - last.mean(0)], 1)
