"""Panoptic video object segmentation: G and the decay of VIPOSeg.

Source: Xu et al., "Video Object Segmentation in Panoptic Wild Scenes", IJCAI 2023; where it leaves something open, what
the evaluation program of VIPOSeg does.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from common.metrics.functional import region_similarity
from common.metrics.rows import RowMetric

SUBSETS = ("thing_seen", "thing_unseen", "stuff_seen", "stuff_unseen")
DILATION = 0.02  # of the image diagonal: the width of a boundary
MOST = 60  # objects: the decay is of frames with fewer
# Classes of VIPSeg, from 0; all others are stuff that is seen.
THING_SEEN = frozenset((2, 4, 8, 10, 41, 43, 44, 48, 49, 50, 51, 52, 54, 56, 60, 62, 63, 65, 74, 76, 77, 78, 79)) | {
    *(82, 83, 84, 85, 87, 88, 89, 90, 91, 92, 106, 107, 108, 114, 115, 117, 122, 123)
}
THING_UNSEEN = frozenset((46, 47, 55, 61, 64, 72, 86, 95, 96, 97, 99, 100, 101, 102, 109, 116, 118))
STUFF_UNSEEN = frozenset((5, 6, 9, 17, 20, 25, 26, 34, 38, 57, 58, 71, 81, 94, 112, 113, 120))
OTHER_MACHINE = 98  # unseen in these videos, seen in all others
OTHER_MACHINE_UNSEEN = frozenset(
    (
        "187_WUZUSD4477I",
        "319_l1Dz12fxQzQ",
        "320_nhKXemkIvh4",
        "517_AWvYuplla_s",
        "532_QmZyJuLlEec",
        "774_devdFjIpDcc",
        "1016_HG0AsTOxI5g",
        "1017_IAU0WGB9VPw",
        "1020_TgCIv6bp3XM",
        "1021_cPOxAMo28yk",
        "1022_emSaDd2ddj0",
        "1033_sh81AwYuihg",
        "1065_d2sHRyAHKqI",
        "1067_fk3jhxBi1pA",
        "1068_gxnZkf0LQfk",
        "1069_jFHRbZxswz8",
        "1070_uTJB31tuYes",
        "1072_zvNEdUk5k0Q",
        "1230_AGY-gQ_3O8Y",
        "1333__iprMPKLdOQ",
        "1334_qlmfvYA3_rk",
        "2004_1btxeVbyojs",
        "2005_83KrhWajwfw",
    )
)


class VIPOSegMetrics(RowMetric):
    """Mask and boundary IoU over things and stuff of seen and unseen classes, pooled over all frames and objects.

    ``compute`` returns fractions: ``G``, the plain mean of ``thing_seen``, ``thing_unseen``, ``stuff_seen`` and
    ``stuff_unseen``; each of these the mean of ``mask_iou_`` and ``boundary_iou_`` with the same ending; and ``decay``,
    lower is better: the lambda of exp(-lambda n / 100) fitted to the mean IoU of frames that have n objects to follow,
    n < 60. A subset without objects is NaN, and so is G then.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(5, **kwargs)

    def update(self, preds: Tensor, target: Tensor, given: Tensor, subset: Tensor) -> None:
        """Add the N objects of one video.

        Args:
            preds: bool (T, N, H, W).
            target: bool (T, N, H, W).
            given: (N,), the frame in which each object is given. Only later ones count for it.
            subset: (N,), see ``subset_of``.
        """
        later = torch.arange(len(preds))[:, None] > given
        frames = [mask_and_boundary_iou(*frame) for frame in zip(preds, target, strict=True)]
        mask_iou, boundary_iou = (torch.stack(values).where(later, torch.nan) for values in zip(*frames, strict=True))
        self.extend(mask_iou, boundary_iou, later.sum(1, keepdim=True).expand_as(later), subset)

    def extend(self, mask_iou: Tensor, boundary_iou: Tensor, known: Tensor, subset: Tensor) -> None:
        """Add the N objects of one video that are already measured.

        Args:
            mask_iou: (T, N); NaN where the frame does not count for the object.
            boundary_iou: likewise.
            known: (T, N), how many objects were given in earlier frames, the same for all of a frame.
            subset: (N,), place in ``SUBSETS``.
        """
        if mask_iou.ndim != 2 or not mask_iou.shape == boundary_iou.shape == known.shape:
            shapes = ", ".join(str(tuple(values.shape)) for values in (mask_iou, boundary_iou, known))
            raise ValueError(f"both IoU and known must be (T, N), not {shapes}")
        rows = []
        for n in range(mask_iou.shape[1]):
            counted = ~mask_iou[:, n].isnan()
            for objects in known[counted, n].unique():
                some = counted & (known[:, n] == objects)
                sums = (values[some, n].double().sum() for values in (mask_iou, boundary_iou))
                rows.append([float(value) for value in (subset[n], objects, *sums, some.sum())])
        self.add(torch.tensor(rows, dtype=torch.float64).reshape(-1, self.width))

    def compute(self) -> dict[str, Tensor]:
        """The table's numbers as float64 scalars; NaN before the first object."""
        rows = self.sorted_rows()
        sums = torch.stack([rows[rows[:, 0] == k, 2:].sum(0) for k in range(len(SUBSETS))])
        means = sums[:, :2] / sums[:, 2:]
        each = dict(zip(SUBSETS, means.mean(1), strict=True))
        out = {"G": torch.stack(list(each.values())).mean(), **each}
        for place, name in enumerate(("mask_iou", "boundary_iou")):
            out |= {f"{name}_{subset}": value for subset, value in zip(SUBSETS, means[:, place], strict=True)}
        return {**out, "decay": self._decay(rows[rows[:, 1] < MOST])}

    def _decay(self, rows: Tensor) -> Tensor:
        """Least squares through the origin of -log(mean IoU) against n / 100; infinite if a mean is 0."""
        groups = [rows[rows[:, 1] == n] for n in rows[:, 1].unique()]
        points = [[float(some[0, 1]) / 100, float(some[:, 2:4].sum() / some[:, 4].sum() / 2)] for some in groups]
        x, y = rows.new_tensor(points).reshape(-1, 2).T
        return -(x * y.log()).sum() / (x * x).sum()


def subset_of(category: int, video: str) -> int:
    """Place in ``SUBSETS`` of an object of this class of VIPSeg, from 0, in this video."""
    if category == OTHER_MACHINE:
        return SUBSETS.index("stuff_unseen" if video in OTHER_MACHINE_UNSEEN else "stuff_seen")
    lists = {"thing_seen": THING_SEEN, "thing_unseen": THING_UNSEEN, "stuff_unseen": STUFF_UNSEEN}
    return SUBSETS.index(next((name for name, classes in lists.items() if category in classes), "stuff_seen"))


def mask_and_boundary_iou(preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """IoU of masks and of their boundaries, float64 (N,) each; both 1 if both are empty, 0 if one is.

    Args:
        preds: bool (N, H, W).
        target: bool (N, H, W).
    """
    mask_iou = region_similarity(preds, target)
    both = preds.flatten(1).any(1) & target.flatten(1).any(1)
    edges = [torch.stack([boundary(mask) for mask in masks]) if len(masks) else masks for masks in (preds, target)]
    return mask_iou, torch.where(both, region_similarity(*edges), mask_iou)


def boundary(mask: Tensor) -> Tensor:
    """Pixels of a mask, bool (H, W), that have one within ``DILATION`` of the diagonal, in a square, that is not of it.

    Beyond the image nothing is of it. Source: Cheng et al., "Boundary IoU", CVPR 2021, with VIPOSeg's rounding.
    """
    reach = max(round(DILATION * math.hypot(*mask.shape)), 1)
    rows, columns = (mask.any(axis).nonzero()[:, 0].tolist() for axis in (1, 0))
    edges = torch.zeros_like(mask)
    if rows:
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        edges[box] = mask[box] & ~_eroded(_eroded(mask[box], reach).T, reach).T
    return edges


def _eroded(mask: Tensor, reach: int) -> Tensor:
    """Whether all pixels up to ``reach`` to the left and to the right are of the mask."""
    height, width = mask.shape
    sums = torch.zeros(height, width + 2 * reach + 1, dtype=torch.int32, device=mask.device)
    sums[:, reach + 1 : reach + 1 + width] = mask.cumsum(1, dtype=torch.int32)
    sums[:, reach + 1 + width :] = sums[:, reach + width, None]
    return sums[:, 2 * reach + 1 :] - sums[:, :width] == 2 * reach + 1
