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
from common.metrics.rows import RowMetric

PROPOSALS = 20  # predicted objects that the unsupervised mode takes
BACKGROUND = 0.1  # its probability, where masks of several expressions are combined
THRESHOLD = 0.5  # probabilities below it are 0


class ReferringMetrics(RowMetric):
    """J&F over the objects of a set of expressions, then over sets: Ref-DAVIS-2017.

    ``compute`` returns fractions: ``J&F``, ``J``, ``F`` with predicted objects assigned to true ones, which is what the
    literature reports; ``J&F_fixed``, ``J_fixed``, ``F_fixed``, where the answer to an expression counts for the object
    that it describes.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(5, **kwargs)

    def update(self, preds: Tensor, target: Tensor, void: Tensor | None = None, group: int = 0) -> None:
        """Add one video and set of expressions: its G objects on all annotated frames.

        Args:
            preds: bool (T, P, H, W), G <= P <= 20 masks; the first G answer the expressions of the G objects.
            target: bool (T, G, H, W).
            void: bool (T, H, W), pixels that do not count.
            group: the set of expressions.
        """
        voids = [None] * len(preds) if void is None else void
        frames = [pairwise_j_and_f(*frame) for frame in zip(preds, target, voids, strict=True)]
        self.extend(**assign(torch.stack([j for j, _ in frames]), torch.stack([f for _, f in frames]), group))

    def extend(self, j: Tensor, f: Tensor, j_fixed: Tensor, f_fixed: Tensor, group: Tensor) -> None:
        """Add N objects that are already measured.

        Args:
            j: (T, N), of the predicted object that is assigned to the true one.
            f: likewise.
            j_fixed: (T, N), of the answer to the expression.
            f_fixed: likewise.
            group: (N,), the set of expressions.
        """
        if j.ndim != 2 or not j.shape == f.shape == j_fixed.shape == f_fixed.shape or group.shape != j.shape[1:]:
            shapes = ", ".join(str(tuple(values.shape)) for values in (j, f, j_fixed, f_fixed, group))
            raise ValueError(f"the first four must be (T, N) and group (N,), not {shapes}")
        self.add(torch.stack([group.double(), *(values.double().mean(0) for values in (j, f, j_fixed, f_fixed))], 1))

    def compute(self) -> dict[str, Tensor]:
        """The table's numbers as float64 scalars; NaN before the first object."""
        rows = self.sorted_rows()
        sets = [rows[rows[:, 0] == group, 1:].mean(0) for group in rows[:, 0].unique()]
        j, f, j_fixed, f_fixed = torch.stack(sets or [rows.new_full((4,), torch.nan)]).mean(0)
        out = {"J&F": (j + f) / 2, "J": j, "F": f}
        return out | {"J&F_fixed": (j_fixed + f_fixed) / 2, "J_fixed": j_fixed, "F_fixed": f_fixed}


def pairwise_j_and_f(preds: Tensor, target: Tensor, void: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """J and F of every predicted with every true mask of one frame: bool (P, H, W), (G, H, W) -> float64 (P, G) each.

    Args:
        preds: predicted masks; fewer than true ones are filled up with empty ones.
        target: true masks.
        void: bool (H, W), pixels that do not count.

    Raises:
        ValueError: more than 20 predicted masks, masks that are not boolean or of different sizes.
    """
    if len(preds) > PROPOSALS:
        raise ValueError(f"{len(preds)} predicted objects; the unsupervised mode of DAVIS takes {PROPOSALS}")
    missing = max(len(target) - len(preds), 0)
    preds = torch.cat([preds, preds.new_zeros(missing, *preds.shape[1:])])
    pairs = len(preds), len(target), *target.shape[1:]
    left, right = preds[:, None].expand(pairs), target[None].expand(pairs)
    return j_and_f(left, right, void)


def assign(j: Tensor, f: Tensor, group: int = 0) -> dict[str, Tensor]:
    """Assign predicted objects to the true ones of one video, so that the sum of their mean J&F is the highest.

    Args:
        j: float64 (T, P, G) with P >= G, of every pair on every frame.
        f: likewise.
        group: the set of expressions.

    Returns:
        The arguments of ``ReferringMetrics.extend``, (T, G) each and (G,).
    """
    said, true = linear_sum_assignment(-((j.mean(0) + f.mean(0)) / 2).cpu().numpy())
    said, true = said[true.argsort()], sorted(true)
    names = {"j": j[:, said, true], "f": f[:, said, true]}
    fixed = {f"{name}_fixed": values.diagonal(dim1=1, dim2=2) for name, values in (("j", j), ("f", f))}
    return {**names, **fixed, "group": torch.full((j.shape[2],), float(group), dtype=torch.float64)}


def combine_expressions(prob: Tensor, background: float = BACKGROUND, threshold: float = THRESHOLD) -> Tensor:
    """One label map of the answers to several expressions: each pixel goes to the most probable, as ReferFormer has it.

    Args:
        prob: float (N, H, W), probability of each object.
        background: probability of none of them; a tie goes to it, and then to the first object.
        threshold: lower probabilities are taken for 0.

    Returns:
        int64 (H, W), 0 background, n + 1 the nth object.
    """
    kept = torch.where(prob < threshold, 0.0, prob)
    return torch.cat([torch.full_like(kept[:1], background), kept]).argmax(0)
