"""J and J_tr of VOST as a torchmetric.

Source: Tokmakov et al., "Breaking the 'Object' in Video Object Segmentation", CVPR 2023.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from common.metrics.functional import region_similarity
from common.metrics.jandf import STATISTICS, per_object
from common.metrics.rows import RowMetric


class VOSTMetrics(RowMetric):
    """Mean, recall and decay of J over all frames and over the last quarter of them, flat over all objects.

    Give it scored frames only: VOST leaves out the first and the last. ``compute`` returns fractions: ``J`` and
    ``J_tr``, where the object has been transformed, and ``J_recall``, ``J_decay``, ``J_tr_recall``, ``J_tr_decay``.

    Args:
        wrap_uint8: number the bins of the decay in 8 bits as the official tool does; see ``JAndF``.
        kwargs: those of ``torchmetrics.Metric``.
    """

    def __init__(self, wrap_uint8: bool = False, **kwargs: Any) -> None:
        super().__init__(2 * len(STATISTICS), **kwargs)
        self.wrap_uint8 = wrap_uint8

    def update(self, preds: Tensor, target: Tensor, void: Tensor | None = None) -> None:
        """Add the N objects of one video: boolean masks (T, N, H, W); ``void`` broadcastable to them is left out."""
        self.extend(region_similarity(preds, target, void))

    def extend(self, j: Tensor) -> None:
        """Add the N objects of one video whose frames are already measured: (T, N).

        NaN: the frame does not count for the object. An object for which no frame counts is left out.
        """
        if j.ndim != 2 or not len(j):
            raise ValueError(f"J must be (T, N) with T > 0, not {tuple(j.shape)}")
        for values in j.double().T:
            counted = values[~values.isnan()][:, None]
            if len(counted):
                parts = counted, counted[len(counted) * 3 // 4 :]
                self.add(torch.cat([per_object(part, self.wrap_uint8) for part in parts], 1))

    def compute(self) -> dict[str, Tensor]:
        """The table's numbers as float64 scalars; NaN before the first object."""
        values = self.sorted_rows().mean(0)
        names = [f"{measure}_{statistic}" for measure in ("J", "J_tr") for statistic in STATISTICS]
        out = dict(zip(names, values, strict=True))
        return {"J": out.pop("J_mean"), "J_tr": out.pop("J_tr_mean"), **out}
