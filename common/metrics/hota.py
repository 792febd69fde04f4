"""HOTA, OWTA and track AP of BURST.

Sources: Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking", IJCV 2021; Liu et al.,
"Opening up Open-World Tracking", CVPR 2022 (OWTA); Athar et al., "BURST: A Benchmark for Unifying Object Recognition,
Segmentation and Tracking in Video", WACV 2023; where they leave something open, what BURST's evaluation program does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from common.metrics.rows import RowMetric
from common.metrics.tubes import TrackOverlaps
from common.metrics.vis_ap import THRESHOLDS, average_precision, match_tracks

ALPHAS = np.arange(0.05, 0.99, 0.05)
EPS = float(np.finfo(float).eps)
COUNTS = 4  # TP, FN, FP, and the sum of the association of TP
MATCH = 0.5  # IoU at which a prediction is about an annotated object at all
Array = NDArray[np.float64]


class HOTAMetrics(RowMetric):
    """HOTA, DetA, AssA, OWTA, DetRe and track AP over classes.

    The counts of a class are summed over videos, the numbers made from them averaged over the localisation thresholds
    0.05 to 0.95 and then over the classes that have a true mask. ``compute`` returns fractions: ``HOTA``, ``DetA``,
    ``AssA``, ``AP``, ``OWTA``, ``DetRe`` for each group of classes, with the name of the group behind.

    Args:
        groups: name and classes of each group; None: all.
        kwargs: those of ``torchmetrics.Metric``.
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
        """Add one video, all of whose frames and classes are annotated exhaustively.

        Args:
            preds: bool (T, P, H, W), the masks of P tracks; an empty one says that it is not there.
            target: bool (T, G, H, W).
            scores: of the P tracks.
            categories: of the P tracks.
            target_categories: of the G tracks.
        """
        frames, here, there = BURSTFrames(federated=False), range(preds.shape[1]), range(target.shape[1])
        for said, true in zip(preds, target, strict=True):
            frames.add(said, true, here, there, scores, categories, target_categories)
        self.extend(**frames.result())

    def extend(
        self, category: Tensor, score: Tensor, video: Tensor, rank: Tensor, outcome: Tensor, counts: Tensor
    ) -> None:
        """Add what ``BURSTFrames`` has measured of one or more videos."""
        if not category.shape == score.shape == video.shape == rank.shape == outcome.shape[1:] == counts.shape[2:]:
            shapes = ", ".join(str(tuple(v.shape)) for v in (category, score, video, rank, outcome, counts))
            raise ValueError(f"the first four must be (N,), outcome (K, N) and counts (4, A, N), not {shapes}")
        keys = torch.stack([category, -score, video, rank])
        self.add(torch.cat([keys, outcome, counts.flatten(0, 1)]).T)

    def compute(self) -> dict[str, Tensor]:
        """The table's numbers as float64 scalars; NaN for a group without any true mask."""
        rows = self.sorted_rows()
        each = {int(category): self._class(rows[rows[:, 0] == category]) for category in rows[:, 0].unique()}
        out: dict[str, Tensor] = {}
        for name, group in self.groups.items():
            values = [value for category, value in each.items() if group is None or category in group]
            means = torch.stack([*values, rows.new_full((6,), torch.nan)]).nanmean(0)
            names = (f"{number}{name}" for number in ("HOTA", "DetA", "AssA", "AP", "OWTA", "DetRe"))
            out |= dict(zip(names, means, strict=True))
        return out

    def _class(self, rows: Tensor) -> Tensor:
        """The six numbers of one class, NaN if it has no true mask."""
        counted, outcome = rows[:, -1].isnan().logical_not(), rows[:, 4 : 4 + len(THRESHOLDS)]
        tp, fn, fp, association = rows[counted, 4 + len(THRESHOLDS) :].sum(0).view(COUNTS, -1)
        det_a, det_re = (tp / whole.clamp(min=1) for whole in (tp + fn + fp, tp + fn))
        ass_a = association / tp.clamp(min=1)
        true, said = rows[:, 3] < 0, rows[:, 3] >= 0
        ap = average_precision(outcome[said], (outcome[true] == 1).sum(0))
        hota, owta = (det_a * ass_a).sqrt(), (det_re * ass_a).sqrt()
        numbers = torch.stack([hota, det_a, ass_a, ap.mean().expand_as(tp), owta, det_re])
        return torch.where((tp + fn > 0).any(), numbers.mean(1), torch.nan)


class TrackSimilarities:
    """IoU of predicted with true masks of one video and class, frame by frame; what HOTA counts comes from it.

    It is all that is kept of the frames, since which tracks belong together is known at the end only.
    """

    def __init__(self) -> None:
        self.frames: list[tuple[Array, list[int], list[int]]] = []
        self.places: tuple[dict[int, int], dict[int, int]] = ({}, {})  # of true and of predicted tracks

    def add(self, iou: Array, target_ids: Sequence[int], pred_ids: Sequence[int]) -> None:
        """Add a frame: float64 (G, P), and the ids of the tracks that are there."""
        ids = zip(self.places, (target_ids, pred_ids), strict=True)
        rows, columns = ([places.setdefault(id, len(places)) for id in some] for places, some in ids)
        self.frames.append((iou, rows, columns))

    def counts(self) -> Array:
        """TP, FN, FP and the sum over TP of their association, at each threshold: float64 (4, 19)."""
        lengths = tuple(np.zeros(len(places)) for places in self.places)
        alignment = np.zeros((len(lengths[0]), len(lengths[1])))
        for iou, rows, columns in self.frames:
            lengths[0][rows] += 1
            lengths[1][columns] += 1
            either = iou.sum(0) + iou.sum(1)[:, None] - iou
            alignment[np.ix_(rows, columns)] += np.where(either > EPS, iou / np.maximum(either, EPS), 0)
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
    """Counts of one video while its annotated frames stream in, class by class.

    Not every class is labelled in every video. So a predicted mask that meets no true one with an IoU of 0.5 is dropped
    where its class is not labelled exhaustively, or not in the frame and not known to be absent from the video. Frames
    without any true mask count for AP only, where a prediction of a class that is neither there nor known to be absent
    is left out, and an unmatched one of a class that is not labelled exhaustively does not count.

    Args:
        negative: classes that are known to be absent.
        not_exhaustive: classes of which not all objects are labelled.
        federated: drop masks as said above; not so in the exemplar-guided task. In the open-world task the program
            takes all tracks for class 1, and looks this number up among the classes not labelled exhaustively.
    """

    def __init__(
        self, negative: Collection[int] = (), not_exhaustive: Collection[int] = (), federated: bool = True
    ) -> None:
        self.negative, self.not_exhaustive, self.federated = set(negative), set(not_exhaustive), federated
        self.overlaps = TrackOverlaps()
        self.classes: dict[int, TrackSimilarities] = {}
        self.said: dict[int, int] = {}  # class of a predicted track
        self.true: dict[int, int] = {}
        self.scores: dict[int, float] = {}  # their sum over frames

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
        """Add a frame. Empty masks are not there.

        Args:
            preds: bool (P, H, W).
            target: bool (G, H, W).
            pred_ids: the P tracks.
            target_ids: the G tracks.
            scores: of the P masks; that of a track is their mean.
            categories: of the P tracks.
            target_categories: of the G tracks.
        """
        iou = self.overlaps.add(preds, target, pred_ids, target_ids).T.cpu().numpy()
        true, said = (masks.flatten(1).any(1).nonzero()[:, 0].tolist() for masks in (target, preds))
        self.true |= {target_ids[k]: target_categories[k] for k in true}
        for k in said:
            self.said[pred_ids[k]] = categories[k]
            self.scores[pred_ids[k]] = self.scores.get(pred_ids[k], 0.0) + scores[k]
        if not true:
            return
        for category in {target_categories[k] for k in true} | {categories[k] for k in said}:
            rows = [k for k in true if target_categories[k] == category]
            columns = [k for k in said if categories[k] == category]
            unsure = category in self.not_exhaustive or (not rows and category not in self.negative)
            if self.federated and unsure:
                columns = [columns[k] for k in _about_something(iou[np.ix_(rows, columns)])]
            similarities = self.classes.setdefault(category, TrackSimilarities())
            ids = [target_ids[k] for k in rows], [pred_ids[k] for k in columns]
            similarities.add(iou[np.ix_(rows, columns)], *ids)

    def result(self, video: int = 0) -> dict[str, Tensor]:
        """The arguments of ``HOTAMetrics.extend``, float64: a column for each class and one for each track.

        A class has ``category`` and ``counts`` (4, 19, N); a track ``category`` and what ``match_tracks`` says of it,
        whatever its size. The rest is NaN.

        Args:
            video: place of the video in the split, which decides between equal scores.
        """
        labelled = {*self.negative, *self.true.values()}
        said = {id: category for id, category in self.said.items() if category in labelled}
        matched = match_tracks(
            self.overlaps.iou(list(said), list(self.true)),
            [self.scores[id] / self.overlaps.frames[0][id] for id in said],
            list(said.values()),
            list(self.true.values()),
            # a size beyond all ranges, so that it does not count where it is unmatched
            torch.tensor([torch.inf if category in self.not_exhaustive else 0.0 for category in said.values()]),
            torch.zeros(len(self.true)),
            video=video,
            most=None,
        )
        matched["outcome"] = matched["outcome"][0]
        classes = torch.tensor(list(self.classes), dtype=torch.float64)
        out = {name: _filled(values, after=len(classes)) for name, values in matched.items()}
        out["category"][len(matched["category"]) :] = classes
        tables = [torch.from_numpy(similarities.counts()) for similarities in self.classes.values()]
        counts = torch.stack(tables, 2) if tables else torch.zeros(COUNTS, len(ALPHAS), 0, dtype=torch.float64)
        return {**out, "counts": _filled(counts, before=len(matched["category"]))}


def _about_something(iou: Array) -> list[int]:
    """Predicted masks that can be assigned to a true one with an IoU of at least 0.5: (G, P) -> places in P."""
    close = np.where(iou >= MATCH - EPS, iou, 0)
    left, right = linear_sum_assignment(-close)
    return sorted(right[close[left, right] > EPS].tolist())


def _filled(values: Tensor, before: int = 0, after: int = 0) -> Tensor:
    """With so many columns of NaN before and after."""
    sides = (values.new_full((*values.shape[:-1], n), torch.nan) for n in (before, after))
    return torch.cat([next(sides), values, next(sides)], -1)
