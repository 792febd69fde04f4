"""HOTA, OWTA and track AP, as evaluated by BURST.

Sources: Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking", IJCV 2021; Liu et al.,
"Opening up Open-World Tracking", CVPR 2022 (OWTA); Athar et al., "BURST: A Benchmark for Unifying Object Recognition,
Segmentation and Tracking in Video", WACV 2023. Details that they leave open follow BURST's evaluation program.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from common.metrics.rows import RowMetric, unique_values
from common.metrics.tubes import TrackOverlaps
from common.metrics.vis_ap import THRESHOLDS, average_precision, match_tracks

ALPHAS = np.arange(0.05, 0.99, 0.05)
EPS = float(np.finfo(float).eps)
COUNTS = 4  # TP, FN, FP, and the sum of the association score over TP
MIN_IOU = 0.5  # for a prediction to be kept where classes are labelled incompletely
Array = NDArray[np.float64]


class HOTAMetrics(RowMetric):
    """HOTA, DetA, AssA, OWTA, DetRe and track AP over classes.

    Counts are summed per class over videos; the measures are averaged over the localisation thresholds 0.05 to 0.95 and
    then over the classes that have an annotated mask. ``compute`` returns fractions: ``HOTA``, ``DetA``, ``AssA``,
    ``AP``, ``OWTA``, ``DetRe`` for each group of classes, with the name of the group as suffix.

    Args:
        groups: classes of each group by suffix, None for all classes; default: one group of all classes.
        kwargs: arguments of ``torchmetrics.Metric``.
    """

    def __init__(self, groups: Mapping[str, Collection[int] | None] | None = None, **kwargs: Any) -> None:
        super().__init__(4 + len(THRESHOLDS) + COUNTS * len(ALPHAS), **kwargs)
        self.groups = {"": None} if groups is None else dict(groups)

    def update(
        self,
        preds: Tensor,
        target: Tensor,
        scores: Sequence[float],
        categories: Sequence[int],
        target_categories: Sequence[int],
    ) -> None:
        """Add one video whose frames and classes are annotated exhaustively.

        Args:
            preds: bool (T, P, H, W), masks of P predicted tracks; empty where a track is absent.
            target: bool (T, G, H, W), masks of G true tracks.
            scores: confidence of the P tracks.
            categories: classes of the P tracks.
            target_categories: classes of the G tracks.
        """
        frames, pred_ids, target_ids = BURSTFrames(federated=False), range(preds.shape[1]), range(target.shape[1])
        for predicted, true in zip(preds, target, strict=True):
            frames.add(predicted, true, pred_ids, target_ids, scores, categories, target_categories)
        self.extend(**frames.result())

    def extend(
        self, category: Tensor, score: Tensor, video: Tensor, rank: Tensor, outcome: Tensor, counts: Tensor
    ) -> None:
        """Add results of ``BURSTFrames`` for one or more videos.

        Args:
            category: (N,), class of a column.
            score: (N,), confidence; NaN for columns of true tracks and of classes.
            video: (N,), index of the video.
            rank: (N,), rank of a detection in its video and class, -1 for true tracks.
            outcome: (K, N), matching at each IoU threshold, see ``match_tracks``.
            counts: (4, A, N), TP, FN, FP and association of a class at each of A thresholds; NaN for columns of tracks.

        Raises:
            ValueError: the shapes do not match.
        """
        if not category.shape == score.shape == video.shape == rank.shape == outcome.shape[1:] == counts.shape[2:]:
            shapes = ", ".join(str(tuple(v.shape)) for v in (category, score, video, rank, outcome, counts))
            raise ValueError(f"the first four must be (N,), outcome (K, N) and counts (4, A, N), not {shapes}")
        keys = torch.stack([category, -score, video, rank])
        self.add(torch.cat([keys, outcome, counts.flatten(0, 1)]).T)

    def compute(self) -> dict[str, Tensor]:
        """Return the numbers as float64 scalars; NaN for a group without any true mask."""
        rows = self.sorted_rows()
        each = {int(category): self._class(rows[rows[:, 0] == category]) for category in unique_values(rows[:, 0])}
        out: dict[str, Tensor] = {}
        for name, group in self.groups.items():
            values = [value for category, value in each.items() if group is None or category in group]
            means = torch.stack([*values, rows.new_full((6,), torch.nan)]).nanmean(0)
            names = (f"{number}{name}" for number in ("HOTA", "DetA", "AssA", "AP", "OWTA", "DetRe"))
            out |= dict(zip(names, means, strict=True))
        return out

    def _class(self, rows: Tensor) -> Tensor:
        """Return the six numbers of one class, NaN if it has no true mask."""
        # Rows of classes have counts; rows of tracks have NaN there and are used for AP.
        has_counts, outcome = rows[:, -1].isnan().logical_not(), rows[:, 4 : 4 + len(THRESHOLDS)]
        tp, fn, fp, association = rows[has_counts, 4 + len(THRESHOLDS) :].sum(0).view(COUNTS, -1)
        det_a, det_re = (tp / total.clamp(min=1) for total in (tp + fn + fp, tp + fn))
        ass_a = association / tp.clamp(min=1)
        true, predicted = rows[:, 3] < 0, rows[:, 3] >= 0
        ap = average_precision(outcome[predicted], (outcome[true] == 1).sum(0))
        hota, owta = (det_a * ass_a).sqrt(), (det_re * ass_a).sqrt()
        numbers = torch.stack([hota, det_a, ass_a, ap.mean().expand_as(tp), owta, det_re])
        return torch.where((tp + fn > 0).any(), numbers.mean(1), torch.nan)


class TrackSimilarities:
    """IoU of predicted and true masks of one video and class, frame by frame, and the counts of HOTA.

    The IoU of all frames is stored, since the association of tracks is known only at the end of the video.
    """

    def __init__(self) -> None:
        self.frames: list[tuple[Array, list[int], list[int]]] = []
        self.index: tuple[dict[int, int], dict[int, int]] = ({}, {})  # row of each true track, column of each predicted

    def add(self, iou: Array, target_ids: Sequence[int], pred_ids: Sequence[int]) -> None:
        """Add a frame.

        Args:
            iou: float64 (G, P).
            target_ids: ids of the G true tracks in the frame.
            pred_ids: ids of the P predicted tracks in the frame.
        """
        sides = zip(self.index, (target_ids, pred_ids), strict=True)
        rows, columns = ([index.setdefault(id, len(index)) for id in ids] for index, ids in sides)
        self.frames.append((iou, rows, columns))

    def counts(self) -> Array:
        """Return TP, FN, FP and the sum of the association score over TP at each threshold, float64 (4, 19)."""
        lengths = tuple(np.zeros(len(index)) for index in self.index)
        alignment = np.zeros((len(lengths[0]), len(lengths[1])))
        for iou, rows, columns in self.frames:
            lengths[0][rows] += 1
            lengths[1][columns] += 1
            # A soft IoU: each pair competes with all pairs in its row and column.
            union = iou.sum(0) + iou.sum(1)[:, None] - iou
            alignment[np.ix_(rows, columns)] += np.where(union > EPS, iou / np.maximum(union, EPS), 0)
            # Matching per frame maximises the global alignment first and the IoU of the frame second (HOTA, eq. 11).
        total = lengths[0][:, None] + lengths[1]
        alignment /= total - alignment
        matches = np.zeros((len(ALPHAS), *alignment.shape))
        for iou, rows, columns in self.frames:
            left, right = linear_sum_assignment(-alignment[np.ix_(rows, columns)] * iou)
            matched = iou[left, right] >= ALPHAS[:, None] - EPS
            matches[:, np.array(rows, dtype=int)[left], np.array(columns, dtype=int)[right]] += matched
        tp = matches.sum((1, 2))
        association = (matches * matches / np.maximum(total - matches, 1)).sum((1, 2))
        return np.stack([tp, lengths[0].sum() - tp, lengths[1].sum() - tp, association])


class BURSTFrames:
    """Counts of one video, accumulated over its annotated frames, class by class.

    Labelling is federated: not every class is labelled in every video. A predicted mask without a true one at an IoU of
    0.5 is therefore dropped if its class is not labelled exhaustively, or is absent from the frame without being known
    to be absent from the video. Frames without any true mask count for AP only. There, predictions of a class that is
    neither present nor known to be absent are dropped, and unmatched predictions of a class that is not labelled
    exhaustively are ignored.

    Args:
        negative: classes known to be absent.
        not_exhaustive: classes whose objects are not all labelled.
        federated: drop masks as described; false in the exemplar-guided task. In the open-world task the program treats
            all tracks as class 1 and looks up this number among the classes that are not labelled exhaustively.
    """

    def __init__(
        self, negative: Collection[int] = (), not_exhaustive: Collection[int] = (), federated: bool = True
    ) -> None:
        self.negative, self.not_exhaustive, self.federated = set(negative), set(not_exhaustive), federated
        self.overlaps = TrackOverlaps()
        self.classes: dict[int, TrackSimilarities] = {}
        self.predicted: dict[int, int] = {}  # predicted track -> class
        self.true: dict[int, int] = {}  # true track -> class
        self.scores: dict[int, float] = {}  # predicted track -> sum of its scores over frames

    def add(
        self,
        preds: Tensor,
        target: Tensor,
        pred_ids: Sequence[int],
        target_ids: Sequence[int],
        scores: Sequence[float],
        categories: Sequence[int],
        target_categories: Sequence[int],
    ) -> None:
        """Add a frame. Empty masks mean that the track is absent.

        Args:
            preds: predicted masks, bool (P, H, W).
            target: annotated masks, bool (G, H, W).
            pred_ids: ids of the P predicted tracks.
            target_ids: ids of the G true tracks.
            scores: confidence of the P masks; a track's score is their mean.
            categories: classes of the P predicted tracks.
            target_categories: classes of the G true tracks.
        """
        iou = self.overlaps.add(preds, target, pred_ids, target_ids).T.cpu().numpy()
        true, predicted = (masks.flatten(1).any(1).nonzero()[:, 0].tolist() for masks in (target, preds))
        self.true |= {target_ids[k]: target_categories[k] for k in true}
        for k in predicted:
            self.predicted[pred_ids[k]] = categories[k]
            self.scores[pred_ids[k]] = self.scores.get(pred_ids[k], 0.0) + scores[k]
        if not true:
            return
        for category in {target_categories[k] for k in true} | {categories[k] for k in predicted}:
            rows = [k for k in true if target_categories[k] == category]
            columns = [k for k in predicted if categories[k] == category]
            incomplete = category in self.not_exhaustive or (not rows and category not in self.negative)
            if self.federated and incomplete:
                columns = [columns[k] for k in _matchable(iou[np.ix_(rows, columns)])]
            similarities = self.classes.setdefault(category, TrackSimilarities())
            ids = [target_ids[k] for k in rows], [pred_ids[k] for k in columns]
            similarities.add(iou[np.ix_(rows, columns)], *ids)

    def result(self, video: int = 0) -> dict[str, Tensor]:
        """Return the arguments of ``HOTAMetrics.extend``, float64, with one column per class and per track.

        A column of a class has ``category`` and ``counts`` (4, 19, N), a column of a track ``category`` and the result
        of ``match_tracks`` for all sizes. All other entries are NaN.

        Args:
            video: index of the video in the split, which breaks ties between equal scores.
        """
        labelled = {*self.negative, *self.true.values()}
        predicted = {id: category for id, category in self.predicted.items() if category in labelled}
        matched = match_tracks(
            self.overlaps.iou(list(predicted), list(self.true)),
            [self.scores[id] / self.overlaps.frames[0][id] for id in predicted],
            list(predicted.values()),
            list(self.true.values()),
            # An area outside all ranges makes ``match_tracks`` ignore unmatched detections.
            torch.tensor([torch.inf if category in self.not_exhaustive else 0.0 for category in predicted.values()]),
            torch.zeros(len(self.true)),
            video=video,
            max_detections=None,
        )
        matched["outcome"] = matched["outcome"][0]
        classes = torch.tensor(list(self.classes), dtype=torch.float64)
        out = {name: _pad_columns(values, after=len(classes)) for name, values in matched.items()}
        out["category"][len(matched["category"]) :] = classes
        tables = [torch.from_numpy(similarities.counts()) for similarities in self.classes.values()]
        counts = torch.stack(tables, 2) if tables else torch.zeros(COUNTS, len(ALPHAS), 0, dtype=torch.float64)
        return {**out, "counts": _pad_columns(counts, before=len(matched["category"]))}


def _matchable(iou: Array) -> list[int]:
    """Return the columns of (G, P) that can be assigned to a row with an IoU of at least 0.5."""
    close = np.where(iou >= MIN_IOU - EPS, iou, 0)
    left, right = linear_sum_assignment(-close)
    return sorted(right[close[left, right] > EPS].tolist())


def _pad_columns(values: Tensor, before: int = 0, after: int = 0) -> Tensor:
    """Pad the last dimension with columns of NaN."""
    sides = (values.new_full((*values.shape[:-1], n), torch.nan) for n in (before, after))
    return torch.cat([next(sides), values, next(sides)], -1)
