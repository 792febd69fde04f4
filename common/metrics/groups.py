"""J&F over seen and unseen groups: G of YouTube-VOS and the numbers of LVOS, as a torchmetric.

Sources: Xu et al., "YouTube-VOS: Sequence-to-Sequence Video Object Segmentation", ECCV 2018; Hong et al., "LVOS: A
Benchmark for Large-scale Long-term Video Object Segmentation", arXiv 2404.19326.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from common.metrics.functional import j_and_f
from common.metrics.rows import RowMetric

VARIANCE_DIGITS = 4  # the evaluator of LVOS rounds the variance before it takes the root


class GroupedJAndF(RowMetric):
    """J and F averaged flat over the objects of a group, then over the two groups.

    ``compute`` returns fractions: ``G`` (YouTube-VOS; LVOS calls it ``J&F``, which is given too), the group means
    ``J_seen``, ``J_unseen``, ``F_seen``, ``F_unseen``, their means ``J`` and ``F``, and the instability ``V`` with
    ``V_seen`` and ``V_unseen``: how far an object's (J + F) / 2 strays from its mean, so lower is better.

    A group without objects is NaN and left out of the means. If the group of any object is unknown, both groups are
    NaN and the means are flat over all objects.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(4, **kwargs)

    def update(self, preds: Tensor, target: Tensor, unseen: Tensor) -> None:
        """Add the N objects of one video: boolean masks (T, N, H, W), and ``unseen`` as in ``extend``."""
        self.extend(*j_and_f(preds, target), unseen)

    def extend(self, j: Tensor, f: Tensor, unseen: Tensor, missing: Tensor | None = None) -> None:
        """Add the N objects of one video whose frames are already measured.

        An object for which no frame counts is left out.

        Args:
            j: (T, N); NaN where the frame does not count for the object.
            f: likewise.
            unseen: (N,), 1 if the object belongs to the unseen, 0 if to the seen, NaN if nobody knows.
            missing: (N,), frames that count for the object with J = F = 0 although they do not exist; default: none.
        """
        if j.ndim != 2 or j.shape != f.shape or unseen.shape != j.shape[1:]:
            shapes = ", ".join(str(tuple(values.shape)) for values in (j, f, unseen))
            raise ValueError(f"J and F must both be (T, N) and unseen (N,), not {shapes}")
        absent = torch.zeros_like(unseen) if missing is None else missing
        frames = (~j.isnan()).sum(0) + absent.double()
        both = (j.double() + f.double()) / 2
        mean = both.nansum(0) / frames
        variance = ((both - mean).square().nansum(0) + absent * mean.square()) / frames
        v = variance.round(decimals=VARIANCE_DIGITS).sqrt()
        rows = [unseen.double(), j.double().nansum(0) / frames, f.double().nansum(0) / frames, v]
        self.add(torch.stack(rows, 1)[frames > 0])

    def compute(self) -> dict[str, Tensor]:
        """The table's numbers as float64 scalars; NaN before the first object."""
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
