"""Ego4D visual queries with 2D localisation: tAP, stAP, success and recovery of box tracks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from common.metrics.rows import RowMetric, unique_values

PRECISION_AT = (0.25, 0.50, 0.75, 0.95)
RECOVERED_AT = (0.50, 0.75, 0.95)
SUCCESS_AT = (0.05, 0.10, 0.20)


class VQ2DMetrics(RowMetric):
    """Measures of Ego4D VQ2D over queries with one annotated and one predicted track of boxes each.

    ``compute`` returns fractions: ``tAP25`` to ``tAP95`` and ``stAP25`` to ``stAP95``, the area under the interpolated
    precision-recall curve of all tracks sorted by score, where a track is a true positive if its temporal or
    spatio-temporal IoU is at least 0.25, 0.50, 0.75, 0.95; ``tAP`` and ``stAP``, the means over these four thresholds;
    ``recovery`` (also ``recovery75``, ``recovery95``), the fraction of annotated frames whose box has an IoU of at
    least 0.5 (0.75, 0.95) with the predicted one; ``success`` (also ``success10``, ``success20``), the fraction of
    queries with a spatio-temporal IoU of at least 0.05 (0.10, 0.20).

    Tracks of equal score enter the curve together, so the order of queries is irrelevant; the official evaluator takes
    them in an undefined order.

    Args:
        kwargs: arguments of ``torchmetrics.Metric``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(4 + len(RECOVERED_AT), **kwargs)

    def update(self, preds: Tensor, target: Tensor, score: float) -> None:
        """Add one query.

        Args:
            preds: predicted track, float (K, 5), see ``track_overlap``.
            target: annotated track, float (L, 5).
            score: confidence of the predicted track.
        """
        tiou, stiou, frame_iou = track_overlap(preds, target)
        self.extend(tiou.new_tensor([score]), tiou[None], stiou[None], frame_iou[:, None])

    def extend(self, score: Tensor, tiou: Tensor, stiou: Tensor, frame_iou: Tensor) -> None:
        """Add N queries from measured values.

        Args:
            score: float64 (N,), confidence of each track.
            tiou: float64 (N,), temporal IoU.
            stiou: float64 (N,), spatio-temporal IoU.
            frame_iou: float64 (L, N), IoU of the boxes on each annotated frame; NaN for padding.

        Raises:
            ValueError: the shapes do not match, or a score is NaN.
        """
        count = len(score)
        if not score.shape == tiou.shape == stiou.shape == (count,) or frame_iou.shape[1:] != (count,):
            shapes = ", ".join(str(tuple(values.shape)) for values in (score, tiou, stiou, frame_iou))
            raise ValueError(f"score, tIoU and stIoU must be (N,) and the frames' IoU (L, N), not {shapes}")
        if score.isnan().any():
            raise ValueError("a score is NaN; every track needs one to be sorted by")
        recovered = [(frame_iou >= threshold).sum(0) for threshold in RECOVERED_AT]
        frames = (~frame_iou.isnan()).sum(0)
        self.add(torch.stack([column.double() for column in (score, tiou, stiou, *recovered, frames)], 1))

    def compute(self) -> dict[str, Tensor]:
        """Return the numbers as float64 scalars, the challenge's main one first; NaN before the first query."""
        rows = self.sorted_rows().flip(0)  # highest score first
        score, tiou, stiou = rows[:, :3].unbind(1)
        out: dict[str, Tensor] = {}
        for name, overlap in (("stAP", stiou), ("tAP", tiou)):
            at = {f"{name}{_percent(t)}": average_precision(score, overlap >= t) for t in PRECISION_AT}
            out |= {f"{name}25": at[f"{name}25"], name: torch.stack(list(at.values())).mean(), **at}
        success = [(stiou >= threshold).double().mean() for threshold in SUCCESS_AT]
        recovery = rows[:, 3:-1].sum(0) / rows[:, -1].sum()
        out |= {"success": success[0], "recovery": recovery[0]}
        out |= {f"success{_percent(t)}": value for t, value in zip(SUCCESS_AT[1:], success[1:], strict=True)}
        return out | {f"recovery{_percent(t)}": value for t, value in zip(RECOVERED_AT[1:], recovery[1:], strict=True)}


def average_precision(score: Tensor, correct: Tensor) -> Tensor:
    """Compute the area under the interpolated precision-recall curve of K tracks, one per query.

    The interpolated precision is the maximum at this or any higher recall (PASCAL VOC 2010 and later).

    Args:
        score: (K,), descending; equal scores form one point of the curve.
        correct: bool (K,), whether the track is a true positive.

    Returns:
        float64 scalar, NaN for K = 0.
    """
    if not len(score):
        return torch.full((), torch.nan, dtype=torch.float64, device=score.device)
    last_of_equals = torch.cat([score[:-1] != score[1:], score.new_ones(1, dtype=torch.bool)])
    tp = correct.double().cumsum(0)
    count = torch.arange(1, len(score) + 1, device=score.device)
    precision, recall = (tp / count)[last_of_equals], (tp / len(score))[last_of_equals]
    best = precision.flip(0).cummax(0).values.flip(0)
    return (best * recall.diff(prepend=recall.new_zeros(1))).sum()


def track_overlap(preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the temporal, spatio-temporal and per-frame IoU of two tracks of boxes.

    Args:
        preds: float (K, 5), rows (frame, x0, y0, x1, y1) in any order, each frame at most once; K may be 0.
        target: annotated track in the same form, (L, 5) with L > 0. Boxes are half-open: width = x1 - x0.

    Returns:
        Temporal IoU of the intervals from first to last frame, both included; spatio-temporal IoU, the volume of the
        intersection over the volume of the union; IoU of the boxes on the annotated frames in their order, (L,), 0
        without a predicted box. All float64.

    Raises:
        ValueError: a track has another shape or a repeated frame, or the annotated track is empty.
    """
    for name, track in (("predicted", preds), ("annotated", target)):
        if track.ndim != 2 or track.shape[1] != 5 or len(unique_values(track[:, 0])) != len(track):
            raise ValueError(f"the {name} track must be (K, 5) with each frame once, not {tuple(track.shape)}")
    if not len(target):
        raise ValueError("the annotated track has no box; a query has an answer")
    preds, target = preds.double(), target.double()
    volumes = _areas(preds).sum() + _areas(target).sum()
    same_frame = preds[:, :1] == target[:, 0]  # (K, L), at most one per row and column
    row, column = same_frame.nonzero(as_tuple=True)
    a, b = preds[row], target[column]
    common = torch.cat([a[:, :1], torch.maximum(a[:, 1:3], b[:, 1:3]), torch.minimum(a[:, 3:], b[:, 3:])], 1)
    shared = _areas(common)
    frame_iou = target.new_zeros(len(target))
    frame_iou[column] = _ratio(shared, _areas(a) + _areas(b) - shared)
    return _interval_iou(preds[:, 0], target[:, 0]), _ratio(shared.sum(), volumes - shared.sum()), frame_iou


def _interval_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the IoU of the intervals from the first to the last of frames (K,) and (L,)."""
    if not len(a):
        return b.new_zeros(())
    common = (torch.minimum(a.max(), b.max()) - torch.maximum(a.min(), b.min()) + 1).clamp(min=0)
    return common / (a.max() - a.min() + b.max() - b.min() + 2 - common)


def _areas(track: Tensor) -> Tensor:
    """Return the areas of a track's boxes, (K,); 0 for boxes with negative width or height."""
    return (track[:, 3:] - track[:, 1:3]).clamp(min=0).prod(1)


def _ratio(part: Tensor, total: Tensor) -> Tensor:
    return torch.where(total > 0, part / total, 0.0)


def _percent(threshold: float) -> int:
    return round(100 * threshold)
