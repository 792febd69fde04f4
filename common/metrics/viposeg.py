"""Panoptic video object segmentation: G and decay of VIPOSeg.

Source: Xu et al., "Video Object Segmentation in Panoptic Wild Scenes", IJCAI 2023. Details that it leaves open follow
the evaluation program of VIPOSeg.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from common.metrics.functional import region_similarity
from common.metrics.rows import RowMetric, unique_values

SUBSETS = ("thing_seen", "thing_unseen", "stuff_seen", "stuff_unseen")
DILATION = 0.02  # width of a boundary, as a fraction of the image diagonal
MAX_OBJECTS = 60  # the decay is fitted to frames with fewer objects
# Class indices of VIPSeg; all others are seen stuff.
THING_SEEN = frozenset((2, 4, 8, 10, 41, 43, 44, 48, 49, 50, 51, 52, 54, 56, 60, 62, 63, 65, 74, 76, 77, 78, 79)) | {
    *(82, 83, 84, 85, 87, 88, 89, 90, 91, 92, 106, 107, 108, 114, 115, 117, 122, 123)
}
THING_UNSEEN = frozenset((46, 47, 55, 61, 64, 72, 86, 95, 96, 97, 99, 100, 101, 102, 109, 116, 118))
STUFF_UNSEEN = frozenset((5, 6, 9, 17, 20, 25, 26, 34, 38, 57, 58, 71, 81, 94, 112, 113, 120))
OTHER_MACHINE = 98  # a class that is unseen in these videos and seen in all others
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

    ``compute`` returns fractions: ``G``, the mean of ``thing_seen``, ``thing_unseen``, ``stuff_seen`` and
    ``stuff_unseen``; each of these is the mean of ``mask_iou_`` and ``boundary_iou_`` with the same suffix; ``decay``,
    lower is better, is the lambda of exp(-lambda n / 100) fitted to the mean IoU of frames with n < 60 tracked objects.
    A subset without objects is NaN, and then G is NaN too.

    Args:
        kwargs: arguments of ``torchmetrics.Metric``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(5, **kwargs)

    def update(self, preds: Tensor, target: Tensor, prompt_frames: Tensor, subset: Tensor) -> None:
        """Add the N objects of one video.

        Args:
            preds: predicted masks, bool (T, N, H, W).
            target: annotated masks, bool (T, N, H, W).
            prompt_frames: (N,), frame of each object's prompt; only later frames are scored.
            subset: (N,), see ``subset_of``.
        """
        later = torch.arange(len(preds))[:, None] > prompt_frames
        frames = [mask_and_boundary_iou(*frame) for frame in zip(preds, target, strict=True)]
        mask_iou, boundary_iou = (torch.stack(values).where(later, torch.nan) for values in zip(*frames, strict=True))
        self.extend(mask_iou, boundary_iou, later.sum(1, keepdim=True).expand_as(later), subset)

    def extend(self, mask_iou: Tensor, boundary_iou: Tensor, object_count: Tensor, subset: Tensor) -> None:
        """Add the N objects of one video from per-frame values.

        Args:
            mask_iou: (T, N), IoU of masks; NaN where the frame does not count for the object.
            boundary_iou: (T, N), IoU of boundaries; NaN where the frame does not count for the object.
            object_count: (T, N), number of objects prompted in earlier frames, equal within a frame.
            subset: (N,), index in ``SUBSETS``.

        Raises:
            ValueError: the shapes do not match.
        """
        if mask_iou.ndim != 2 or not mask_iou.shape == boundary_iou.shape == object_count.shape:
            shapes = ", ".join(str(tuple(values.shape)) for values in (mask_iou, boundary_iou, object_count))
            raise ValueError(f"both IoU and object_count must be (T, N), not {shapes}")
        rows = []
        for n in range(mask_iou.shape[1]):
            counted = ~mask_iou[:, n].isnan()
            for objects in unique_values(object_count[counted, n]):
                frames = counted & (object_count[:, n] == objects)
                sums = (values[frames, n].double().sum() for values in (mask_iou, boundary_iou))
                rows.append([float(value) for value in (subset[n], objects, *sums, frames.sum())])
        self.add(torch.tensor(rows, dtype=torch.float64).reshape(-1, self.width))

    def compute(self) -> dict[str, Tensor]:
        """Return the numbers as float64 scalars; NaN before the first object."""
        rows = self.sorted_rows()
        sums = torch.stack([rows[rows[:, 0] == k, 2:].sum(0) for k in range(len(SUBSETS))])
        means = sums[:, :2] / sums[:, 2:]
        each = dict(zip(SUBSETS, means.mean(1), strict=True))
        out = {"G": torch.stack(list(each.values())).mean(), **each}
        for column, name in enumerate(("mask_iou", "boundary_iou")):
            out |= {f"{name}_{subset}": value for subset, value in zip(SUBSETS, means[:, column], strict=True)}
        return {**out, "decay": self._decay(rows[rows[:, 1] < MAX_OBJECTS])}

    def _decay(self, rows: Tensor) -> Tensor:
        """Fit -log(mean IoU) = lambda n / 100 by least squares through the origin; infinite if a mean is 0."""
        groups = [rows[rows[:, 1] == n] for n in unique_values(rows[:, 1])]
        points = [[float(group[0, 1]) / 100, float(group[:, 2:4].sum() / group[:, 4].sum() / 2)] for group in groups]
        x, y = rows.new_tensor(points).reshape(-1, 2).unbind(1)
        decay: Tensor = -(x * y.log()).sum() / (x * x).sum()
        return decay


def subset_of(category: int, video: str) -> int:
    """Return the index in ``SUBSETS`` of an object.

    Args:
        category: class index of VIPSeg.
        video: name of the video.
    """
    if category == OTHER_MACHINE:
        return SUBSETS.index("stuff_unseen" if video in OTHER_MACHINE_UNSEEN else "stuff_seen")
    lists = {"thing_seen": THING_SEEN, "thing_unseen": THING_UNSEEN, "stuff_unseen": STUFF_UNSEEN}
    return SUBSETS.index(next((name for name, classes in lists.items() if category in classes), "stuff_seen"))


def mask_and_boundary_iou(preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the IoU of masks and of their boundaries, both 1 if both masks are empty and 0 if one is.

    Args:
        preds: predicted masks, bool (N, H, W).
        target: annotated masks, bool (N, H, W).

    Returns:
        float64 (N,) each.
    """
    mask_iou = region_similarity(preds, target)
    both = preds.flatten(1).any(1) & target.flatten(1).any(1)
    edges = [torch.stack([boundary(mask) for mask in masks]) if len(masks) else masks for masks in (preds, target)]
    return mask_iou, torch.where(both, region_similarity(*edges), mask_iou)


def boundary(mask: Tensor) -> Tensor:
    """Return the inner boundary of a mask: the mask minus its erosion by a square of radius DILATION x diagonal.

    Pixels outside the image count as background. Source: Cheng et al., "Boundary IoU", CVPR 2021, with VIPOSeg's
    rounding.

    Args:
        mask: bool (H, W).

    Returns:
        bool (H, W).
    """
    reach = max(round(DILATION * math.hypot(*mask.shape)), 1)
    rows, columns = (mask.any(axis).nonzero()[:, 0].tolist() for axis in (1, 0))
    edges = torch.zeros_like(mask)
    if rows:
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        # Erosion by a square is separable: rows first, then columns.
        edges[box] = mask[box] & ~_erode_rows(_erode_rows(mask[box], reach).T, reach).T
    return edges


def _erode_rows(mask: Tensor, reach: int) -> Tensor:
    """Return whether all pixels up to ``reach`` to the left and to the right are in the mask, bool (H, W)."""
    height, width = mask.shape
    # sums[:, k] is the number of mask pixels left of column k - reach, with the image padded by background.
    sums = torch.zeros(height, width + 2 * reach + 1, dtype=torch.int32, device=mask.device)
    sums[:, reach + 1 : reach + 1 + width] = mask.cumsum(1, dtype=torch.int32)
    sums[:, reach + 1 + width :] = sums[:, reach + width, None]
    return sums[:, 2 * reach + 1 :] - sums[:, :width] == 2 * reach + 1
