"""J and J_tr of VOST.

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
    """Mean, recall and decay of J over all frames and over the last quarter of them, averaged flat over all objects.

    Pass scored frames only: VOST excludes the first and the last. ``compute`` returns fractions: ``J``; ``J_tr``, over
    the last quarter, after the transformation; and ``J_recall``, ``J_decay``, ``J_tr_recall``, ``J_tr_decay``.

    Args:
        wrap_uint8: store the bin edges of the decay in 8 bits like the official tool; see ``JAndF``.
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
        self.extend(region_similarity(preds, target, void))

    def extend(self, j: Tensor) -> None:
        """Add the N objects of one video from per-frame values. An object without any scored frame is skipped.

        Args:
            j: (T, N); NaN where the frame does not count for the object.

        Raises:
            ValueError: the shape does not match, or T is 0.
        """
        if j.ndim != 2 or not len(j):
            raise ValueError(f"J must be (T, N) with T > 0, not {tuple(j.shape)}")
        for values in j.double().T:
            counted = values[~values.isnan()][:, None]
            if len(counted):
                parts = counted, counted[len(counted) * 3 // 4 :]
                self.add(torch.cat([per_object(part, self.wrap_uint8) for part in parts], 1))

    def compute(self) -> dict[str, Tensor]:
        """Return the numbers as float64 scalars; NaN before the first object."""
        values = self.sorted_rows().mean(0)
        names = [f"{measure}_{statistic}" for measure in ("J", "J_tr") for statistic in STATISTICS]
        out = dict(zip(names, values, strict=True))
        return {"J": out.pop("J_mean"), "J_tr": out.pop("J_tr_mean"), **out}
