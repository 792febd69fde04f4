"""J&F over seen and unseen groups: G of YouTube-VOS and the numbers of LVOS.

Sources: Xu et al., "YouTube-VOS: Sequence-to-Sequence Video Object Segmentation", ECCV 2018; Hong et al., "LVOS: A
Benchmark for Large-scale Long-term Video Object Segmentation", arXiv 2404.19326.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from common.metrics.functional import j_and_f
from common.metrics.rows import RowMetric

VARIANCE_DIGITS = 4  # the evaluator of LVOS rounds the variance before taking the square root


class GroupedJAndF(RowMetric):
    """J and F averaged flat over the objects of a group, then over the two groups.

    ``compute`` returns fractions: ``G`` (YouTube-VOS; also as ``J&F``, its name in LVOS), the group means ``J_seen``,
    ``J_unseen``, ``F_seen``, ``F_unseen``, their means ``J`` and ``F``, and the temporal instability ``V`` with
    ``V_seen`` and ``V_unseen``: the standard deviation of an object's (J + F) / 2 over frames, lower is better.

    A group without objects is NaN and excluded from the means. If the group of any object is unknown, both groups are
    NaN and the means are flat over all objects.

    Args:
        kwargs: arguments of ``torchmetrics.Metric``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(4, **kwargs)

    def update(self, preds: Tensor, target: Tensor, unseen: Tensor) -> None:
        """Add the N objects of one video.

        Args:
            preds: predicted masks, bool (T, N, H, W).
            target: annotated masks, bool (T, N, H, W).
            unseen: (N,), see ``extend``.
        """
        self.extend(*j_and_f(preds, target), unseen)

    def extend(self, j: Tensor, f: Tensor, unseen: Tensor, missing: Tensor | None = None) -> None:
        """Add the N objects of one video from per-frame values. An object without any scored frame is skipped.

        Args:
            j: (T, N), J per frame; NaN where the frame does not count for the object.
            f: (T, N), F per frame; NaN where the frame does not count for the object.
            unseen: (N,), 1 if the object is in the unseen group, 0 if in the seen group, NaN if unknown.
            missing: (N,), number of frames that do not exist but count with J = F = 0; default: none.

        Raises:
            ValueError: the shapes do not match.
        """
        if j.ndim != 2 or j.shape != f.shape or unseen.shape != j.shape[1:]:
            shapes = ", ".join(str(tuple(values.shape)) for values in (j, f, unseen))
            raise ValueError(f"J and F must both be (T, N) and unseen (N,), not {shapes}")
        missing = torch.zeros_like(unseen) if missing is None else missing
        frames = (~j.isnan()).sum(0) + missing.double()
        j_and_f_mean = (j.double() + f.double()) / 2
        mean = j_and_f_mean.nansum(0) / frames
        # Missing frames score 0, so each deviates from the mean by the mean itself.
        variance = ((j_and_f_mean - mean).square().nansum(0) + missing * mean.square()) / frames
        v = variance.round(decimals=VARIANCE_DIGITS).sqrt()
        rows = [unseen.double(), j.double().nansum(0) / frames, f.double().nansum(0) / frames, v]
        self.add(torch.stack(rows, 1)[frames > 0])

    def compute(self) -> dict[str, Tensor]:
        """Return the numbers as float64 scalars; NaN before the first object."""
        rows = self.sorted_rows()
        unseen, values = rows[:, 0], rows[:, 1:]
        groups = torch.stack([values[unseen == group].mean(0) for group in (0, 1)])
        if unseen.isnan().any():
            groups, (j, f, v) = torch.full_like(groups, torch.nan), values.mean(0)
        else:
            j, f, v = groups.nanmean(0)
        names = [f"{measure}_{group}" for group in ("seen", "unseen") for measure in "JFV"]
        each = dict(zip(names, groups.flatten(), strict=True))
        g = {"G": (j + f) / 2, **{key: each[key] for key in ("J_seen", "J_unseen", "F_seen", "F_unseen")}}
        return {**g, "J&F": g["G"], "J": j, "F": f, "V": v, "V_seen": each["V_seen"], "V_unseen": each["V_unseen"]}
