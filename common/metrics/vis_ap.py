"""Average precision and recall of mask tracks: YouTube-VIS 2019 and 2021, and OVIS.

Source: Yang et al., "Video Instance Segmentation", ICCV 2019. Details that it leaves open follow the evaluation program
of YouTube-VIS (youtubevos/cocoapi).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.metrics.rows import RowMetric, unique_values
from common.metrics.tubes import TrackOverlaps

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
# Exactly numpy's values: a track may have such an IoU or recall, and then the last bit decides.
THRESHOLDS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
RECALLS = torch.from_numpy(np.linspace(0, 1, 101))
# Ranges of a track's mean area in pixels, over the frames that contain it. A track on a limit is in both ranges.
AREAS = {"": (0.0, 1e10), "s": (0.0, 128.0**2), "m": (128.0**2, 256.0**2), "l": (256.0**2, 1e10)}
MAX_DETECTIONS = (1, 10, 100)  # per video and category


class VISMetrics(RowMetric):
    """AP and AR of video instance segmentation, averaged over categories and the IoU thresholds 0.50, 0.55, ..., 0.95.

    ``compute`` returns fractions: ``AP``, ``AP50``, ``AP75``; ``APs``, ``APm``, ``APl`` for tracks with a mean area of
    up to 128^2 pixels, between 128^2 and 256^2, and above; ``AR1``, ``AR10``, ``AR100``, the recall with at most that
    many detections per video and category. Categories without a true track in the range are excluded; NaN if there is
    no other.

    Detections of equal score are ordered by video (``video`` of ``match_tracks``), then by their order within it.

    Args:
        kwargs: arguments of ``torchmetrics.Metric``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(4 + len(AREAS) * len(THRESHOLDS), **kwargs)

    def update(
        self,
        preds: Tensor,
        target: Tensor,
        scores: Sequence[float],
        categories: Sequence[int],
        target_categories: Sequence[int],
        crowd: Sequence[bool] | None = None,
    ) -> None:
        """Add one video.

        Args:
            preds: bool (T, P, H, W), masks of P predicted tracks; empty where a track is absent.
            target: bool (T, G, H, W), masks of G true tracks.
            scores: confidence of the P tracks.
            categories: categories of the P tracks.
            target_categories: categories of the G tracks.
            crowd: whether each of the G tracks is a group of objects, see ``match_tracks``; default: none is.
        """
        overlaps, (pred_ids, target_ids) = TrackOverlaps(), (range(masks.shape[1]) for masks in (preds, target))
        for frame in zip(preds, target, strict=True):
            overlaps.add(*frame, pred_ids, target_ids)
        areas = overlaps.mean_areas(pred_ids), overlaps.mean_areas(target_ids, true=True)
        iou = overlaps.iou(pred_ids, target_ids)
        self.extend(**match_tracks(iou, scores, categories, target_categories, *areas, crowd))

    def extend(self, category: Tensor, score: Tensor, video: Tensor, rank: Tensor, outcome: Tensor) -> None:
        """Add results of ``match_tracks`` for N detections and true tracks of one or more videos.

        Args:
            category: (N,).
            score: (N,), NaN for true tracks.
            video: (N,), index of the video.
            rank: (N,), -1 for true tracks.
            outcome: (A, K, N) for A ranges of areas and K thresholds.

        Raises:
            ValueError: the shapes do not match.
        """
        if not category.shape == score.shape == video.shape == rank.shape == outcome.shape[2:]:
            shapes = ", ".join(str(tuple(values.shape)) for values in (category, score, video, rank, outcome))
            raise ValueError(f"category, score, video and rank must be (N,) and outcome (A, K, N), not {shapes}")
        keys = torch.stack([value.double() for value in (category, -score, video, rank)], 1)
        self.add(torch.cat([keys, outcome.double().flatten(0, 1).T], 1))

    def compute(self) -> dict[str, Tensor]:
        """Return the numbers as float64 scalars; NaN before the first true track."""
        rows = self.sorted_rows()
        categories = [self._category(rows[rows[:, 0] == category]) for category in unique_values(rows[:, 0])]
        empty = rows.new_full((len(AREAS) + len(MAX_DETECTIONS), len(THRESHOLDS)), torch.nan)
        table = torch.stack([*categories, empty]).nanmean(0)  # (numbers, thresholds)
        mean = table.mean(1)
        at = {round(100 * threshold): table[0, k] for k, threshold in enumerate(THRESHOLDS)}
        out = {"AP": mean[0], "AP50": at[50], "AP75": at[75]}
        out |= {f"AP{name}": mean[k] for k, name in enumerate(AREAS) if name}
        return out | {f"AR{limit}": mean[len(AREAS) + k] for k, limit in enumerate(MAX_DETECTIONS)}

    def _category(self, rows: Tensor) -> Tensor:
        """Return AP in each range of areas and AR with each number of detections, (numbers, thresholds)."""
        outcome = rows[:, 4:].reshape(len(rows), len(AREAS), -1)
        true = rows[:, 3] < 0
        positives = (outcome[true] == 1).sum(0)  # (areas, thresholds)
        detections, rank = outcome[~true], rows[~true, 3]
        precision = [average_precision(detections[:, k], positives[k]) for k in range(len(AREAS))]
        recall = [(detections[rank < limit, 0] == 1).sum(0) / positives[0].double() for limit in MAX_DETECTIONS]
        return torch.stack([*precision, *recall])


def average_precision(outcome: Tensor, positives: Tensor) -> Tensor:
    """Compute the mean over 101 recalls of the interpolated precision, 0 at recalls that are not reached.

    Args:
        outcome: (D, K), detections by descending score: 1 true positive, 0 false positive, NaN ignored.
        positives: (K,), number of true tracks.

    Returns:
        float64 (K,), NaN where there is no true track.
    """
    tp, fp = ((outcome == value).double().cumsum(0) for value in (1, 0))
    precision = tp / (tp + fp).clamp(min=1)
    # The best precision at this or a higher recall; the extra row is for recalls that are not reached.
    best = torch.cat([precision.flip(0).cummax(0).values.flip(0), precision.new_zeros(1, len(positives))])
    recall = (tp / positives.clamp(min=1)).T.contiguous()
    first = torch.searchsorted(recall, RECALLS.to(recall).expand(len(positives), -1).contiguous())
    return torch.where(positives > 0, best.gather(0, first.T).mean(0), torch.nan)


def match_tracks(
    iou: Tensor,
    scores: Sequence[float],
    categories: Sequence[int],
    target_categories: Sequence[int],
    areas: Tensor,
    target_areas: Tensor,
    crowd: Sequence[bool] | None = None,
    video: int = 0,
    max_detections: int | None = MAX_DETECTIONS[-1],
) -> dict[str, Tensor]:
    """Match the detections of one video to its true tracks, at each threshold and in each range of areas.

    In each category, the ``max_detections`` best detections are processed by descending score. Each is matched to the
    free true track with the highest IoU of at least the threshold, the last one of equals. If there is none, it is
    matched to an ignored track, if possible, and is then ignored itself: a track outside the range of areas, or a
    crowd, which may be matched repeatedly. An unmatched detection outside the range of areas is ignored as well.

    Args:
        iou: (P, G), IoU of detections and true tracks. One track may be several detections of different categories.
        scores: (P,), confidence of the detections.
        categories: (P,), categories of the detections.
        target_categories: (G,), categories of the true tracks.
        areas: (P,), mean areas in pixels over the frames that contain the track.
        target_areas: (G,), the same for true tracks; the official program uses the annotated areas.
        crowd: (G,), whether a true track is a group of objects; default: none is.
        video: index of the video in the split, which breaks ties between equal scores.
        max_detections: number of detections per category; None means all.

    Returns:
        The arguments of ``VISMetrics.extend``, float64, for N detections and true tracks: ``category``; ``score``, NaN
        for true tracks; ``video``; ``rank`` within video and category, from 0, -1 for true tracks; ``outcome``
        (4, 10, N): 1 true positive, 0 false positive, NaN ignored; for true tracks 1, or NaN if ignored.
    """
    overlap, crowds = iou.numpy(), np.array([False] * len(target_categories) if crowd is None else crowd, dtype=bool)
    keys: list[tuple[float, float, float]] = []
    outcomes: list[Array] = []
    empty = np.zeros((len(AREAS), len(THRESHOLDS), 0))
    ranges = np.array(list(AREAS.values()))[:, :, None]
    outside, outside_true = ((a < ranges[:, 0]) | (a > ranges[:, 1]) for a in (areas.numpy(), target_areas.numpy()))
    for category in sorted({*categories, *target_categories}):
        true = [k for k, other in enumerate(target_categories) if other == category]
        detections = [k for k, other in enumerate(categories) if other == category]
        detections = sorted(detections, key=lambda k: -scores[k])[:max_detections]
        ignored = outside_true[:, true] | crowds[true]
        keys += [(category, scores[k], rank) for rank, k in enumerate(detections)]
        keys += [(category, np.nan, -1)] * len(true)
        table = np.full((len(AREAS), len(THRESHOLDS), len(detections) + len(true)), np.nan)
        for a, t in np.ndindex(table.shape[:2]):
            shared = overlap[np.ix_(detections, true)]
            outcome = _match(shared, THRESHOLDS[t], ignored[a], crowds[true], outside[a, detections])
            table[a, t, : len(detections)] = outcome
        table[:, :, len(detections) :] = np.where(ignored, np.nan, 1.0)[:, None]
        outcomes.append(table)
    columns = torch.tensor(keys, dtype=torch.float64).reshape(-1, 3).unbind(1)
    category_column, score, rank_column = columns
    return {
        "category": category_column,
        "score": score,
        "video": torch.full_like(score, video),
        "rank": rank_column,
        "outcome": torch.from_numpy(np.concatenate([empty, *outcomes], axis=2)),
    }


def _match(iou: Array, threshold: float, ignored: Flags, crowd: Flags, outside: Flags) -> Array:
    """Return the outcome of P detections by descending score, (P,); see ``match_tracks``."""
    free = np.ones(len(ignored), dtype=bool)
    outcome = np.where(outside, np.nan, 0.0)
    fits = iou >= threshold
    for k in fits.any(1).nonzero()[0]:
        candidates = fits[k] & free
        if (candidates & ~ignored).any():
            candidates = candidates & ~ignored
        if candidates.any():
            best = np.flatnonzero(candidates & (iou[k] == iou[k, candidates].max()))[-1]
            outcome[k] = np.nan if ignored[best] else 1.0
            free[best] = crowd[best]  # a crowd stays available
    return outcome
