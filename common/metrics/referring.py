"""J&F of referring video object segmentation.

Ref-YouTube-VOS scores each expression by itself: ``JAndF`` with the expression as the object. Ref-DAVIS-2017 has four
sets of expressions for the same objects, and is scored set by set with the unsupervised mode of davis2017-evaluation,
which is what this file holds.

Sources: Khoreva et al., "Video Object Segmentation with Language Referring Expressions", ACCV 2018; Caelles et al.,
"The 2019 DAVIS Challenge on VOS: Unsupervised Multi-Object Segmentation", arXiv 1905.00737; davis2017-evaluation.
"""

from __future__ import annotations

from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from common.metrics.functional import j_and_f
from common.metrics.rows import RowMetric, unique_values

PROPOSALS = 20  # maximum number of predicted objects in the unsupervised mode


class ReferringMetrics(RowMetric):
    """J&F over the objects of a set of expressions, then over sets (Ref-DAVIS-2017).

    ``compute`` returns fractions: ``J&F``, ``J``, ``F`` with predicted objects assigned to true ones, as reported in
    the literature; ``J&F_fixed``, ``J_fixed``, ``F_fixed`` without assignment, where the mask of an expression is
    compared with the object that it describes.

    Args:
        kwargs: arguments of ``torchmetrics.Metric``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(5, **kwargs)

    def update(self, preds: Tensor, target: Tensor, void: Tensor | None = None, group: int = 0) -> None:
        """Add the G objects of one video and one set of expressions.

        Args:
            preds: bool (T, P, H, W), G <= P <= 20 masks; the first G belong to the expressions of the G objects.
            target: bool (T, G, H, W).
            void: bool (T, H, W), pixels excluded from scoring.
            group: index of the set of expressions.
        """
        voids = [None] * len(preds) if void is None else void
        frames = [pairwise_j_and_f(*frame) for frame in zip(preds, target, voids, strict=True)]
        self.extend(**assign(torch.stack([j for j, _ in frames]), torch.stack([f for _, f in frames]), group))

    def extend(self, j: Tensor, f: Tensor, j_fixed: Tensor, f_fixed: Tensor, group: Tensor) -> None:
        """Add N objects from per-frame values.

        Args:
            j: (T, N), J of the assigned prediction.
            f: (T, N), F of the assigned prediction.
            j_fixed: (T, N), J of the prediction for the object's expression.
            f_fixed: (T, N), F of the prediction for the object's expression.
            group: (N,), index of the set of expressions.

        Raises:
            ValueError: the shapes do not match.
        """
        if j.ndim != 2 or not j.shape == f.shape == j_fixed.shape == f_fixed.shape or group.shape != j.shape[1:]:
            shapes = ", ".join(str(tuple(values.shape)) for values in (j, f, j_fixed, f_fixed, group))
            raise ValueError(f"the first four must be (T, N) and group (N,), not {shapes}")
        self.add(torch.stack([group.double(), *(values.double().mean(0) for values in (j, f, j_fixed, f_fixed))], 1))

    def compute(self) -> dict[str, Tensor]:
        """Return the numbers as float64 scalars; NaN before the first object."""
        rows = self.sorted_rows()
        sets = [rows[rows[:, 0] == group, 1:].mean(0) for group in unique_values(rows[:, 0])]
        j, f, j_fixed, f_fixed = torch.stack(sets or [rows.new_full((4,), torch.nan)]).mean(0)
        out = {"J&F": (j + f) / 2, "J": j, "F": f}
        return out | {"J&F_fixed": (j_fixed + f_fixed) / 2, "J_fixed": j_fixed, "F_fixed": f_fixed}


def pairwise_j_and_f(preds: Tensor, target: Tensor, void: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Compute J and F of every pair of predicted and true mask of one frame.

    Args:
        preds: predicted masks, bool (P, H, W); padded with empty masks if fewer than G.
        target: true masks, bool (G, H, W).
        void: bool (H, W), pixels excluded from scoring.

    Returns:
        J and F, float64 (max(P, G), G) each.

    Raises:
        ValueError: there are more than 20 predicted masks, or masks are not boolean or differ in size.
    """
    if len(preds) > PROPOSALS:
        raise ValueError(f"{len(preds)} predicted objects; the unsupervised mode of DAVIS takes {PROPOSALS}")
    missing = max(len(target) - len(preds), 0)
    preds = torch.cat([preds, preds.new_zeros(missing, *preds.shape[1:])])
    pairs = len(preds), len(target), *target.shape[1:]
    left, right = preds[:, None].expand(pairs), target[None].expand(pairs)
    return j_and_f(left, right, void)


def assign(j: Tensor, f: Tensor, group: int = 0) -> dict[str, Tensor]:
    """Assign predicted objects to the true objects of one video, maximising the sum of their mean J&F.

    Args:
        j: float64 (T, P, G) with P >= G, J of every pair on every frame.
        f: float64 (T, P, G), F of every pair on every frame.
        group: index of the set of expressions.

    Returns:
        The arguments of ``ReferringMetrics.extend``, (T, G) each and (G,).
    """
    predicted, true = linear_sum_assignment(-((j.mean(0) + f.mean(0)) / 2).cpu().numpy())
    predicted, true = predicted[true.argsort()], sorted(true)
    names = {"j": j[:, predicted, true], "f": f[:, predicted, true]}
    fixed = {f"{name}_fixed": values.diagonal(dim1=1, dim2=2) for name, values in (("j", j), ("f", f))}
    return {**names, **fixed, "group": torch.full((j.shape[2],), float(group), dtype=torch.float64)}
