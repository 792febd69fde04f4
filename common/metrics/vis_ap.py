"""Average precision and recall of mask tracks: YouTube-VIS 2019 and 2021, and OVIS.

Source: Yang et al., "Video Instance Segmentation", ICCV 2019; where it leaves something open, what the evaluation
program of YouTube-VIS (youtubevos/cocoapi) does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.metrics.rows import RowMetric
from common.metrics.tubes import TrackOverlaps

# numpy's values: a track may have exactly such an IoU or recall, and the last bit then decides.
THRESHOLDS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
RECALLS = torch.from_numpy(np.linspace(0, 1, 101))
# Mean area of a track in pixels, over the frames that show it. A track on an edge is in both ranges.
AREAS = {"": (0.0, 1e10), "s": (0.0, 128.0**2), "m": (128.0**2, 256.0**2), "l": (256.0**2, 1e10)}
MOST = (1, 10, 100)  # detections of a video and category that are looked at


class VISMetrics(RowMetric):
    """AP and AR of video instance segmentation, means over categories and the IoU thresholds 0.50, 0.55, ..., 0.95.

    ``compute`` returns fractions: ``AP``, ``AP50``, ``AP75``; ``APs``, ``APm``, ``APl`` of tracks with a mean area
    up to 128^2 pixels, between this and 256^2, and from there; ``AR1``, ``AR10``, ``AR100``, the recall with so many
    detections of each video and category. A category without any track to be found in the range is left out; NaN if
    that is true of all.

    Of equal scores, the earlier video's come first (``video`` of ``match_tracks``), and within a video those that are
    given first.

    Args:
        kwargs: those of ``torchmetrics.Metric``.
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
            preds: bool (T, P, H, W), the masks of P tracks; an empty one says that it is not there.
            target: bool (T, G, H, W).
            scores: of the P tracks.
            categories: of the P tracks.
            target_categories: of the G tracks.
            crowd: which of the G tracks are groups of objects, see ``match_tracks``; default: none.
        """
        overlaps, (said, true) = TrackOverlaps(), (range(masks.shape[1]) for masks in (preds, target))
        for frame in zip(preds, target, strict=True):
            overlaps.add(*frame, said, true)
        areas = overlaps.mean_areas(said), overlaps.mean_areas(true, true=True)
        self.extend(**match_tracks(overlaps.iou(said, true), scores, categories, target_categories, *areas, crowd))

    def extend(self, category: Tensor, score: Tensor, video: Tensor, rank: Tensor, outcome: Tensor) -> None:
        """Add what ``match_tracks`` says of N detections and true tracks of one or more videos."""
        if not category.shape == score.shape == video.shape == rank.shape == outcome.shape[2:]:
            shapes = ", ".join(str(tuple(values.shape)) for values in (category, score, video, rank, outcome))
            raise ValueError(f"category, score, video and rank must be (N,) and outcome (A, K, N), not {shapes}")
        keys = torch.stack([value.double() for value in (category, -score, video, rank)], 1)
        self.add(torch.cat([keys, outcome.double().flatten(0, 1).T], 1))

    def compute(self) -> dict[str, Tensor]:
        """The table's numbers as float64 scalars; NaN before the first true track."""
        rows = self.sorted_rows()
        found = [self._category(rows[rows[:, 0] == category]) for category in rows[:, 0].unique()]
        empty = rows.new_full((len(AREAS) + len(MOST), len(THRESHOLDS)), torch.nan)
        table = torch.stack([*found, empty]).nanmean(0)  # of each number at each threshold
        mean = table.mean(1)
        at = {round(100 * threshold): table[0, k] for k, threshold in enumerate(THRESHOLDS)}
        out = {"AP": mean[0], "AP50": at[50], "AP75": at[75]}
        out |= {f"AP{name}": mean[k] for k, name in enumerate(AREAS) if name}
        return out | {f"AR{most}": mean[len(AREAS) + k] for k, most in enumerate(MOST)}

    def _category(self, rows: Tensor) -> Tensor:
        """AP in each range of areas, then AR with each number of detections: (numbers, thresholds), NaN: undefined."""
        outcome = rows[:, 4:].reshape(len(rows), len(AREAS), -1)
        true = rows[:, 3] < 0
        wanted = (outcome[true] == 1).sum(0)  # areas, thresholds
        said, rank = outcome[~true], rows[~true, 3]
        precision = [average_precision(said[:, k], wanted[k]) for k in range(len(AREAS))]
        recall = [(said[rank < most, 0] == 1).sum(0) / wanted[0].double() for most in MOST]
        return torch.stack([*precision, *recall])


def average_precision(outcome: Tensor, wanted: Tensor) -> Tensor:
    """Mean over 101 recalls of the best precision at that recall or a higher one, 0 where it is not reached.

    Args:
        outcome: (D, K), detections by descending score: 1 right, 0 wrong, NaN neither.
        wanted: (K,), number of tracks to be found.

    Returns:
        float64 (K,), NaN where nothing is wanted.
    """
    right, wrong = ((outcome == value).double().cumsum(0) for value in (1, 0))
    precision = right / (right + wrong).clamp(min=1)
    best = torch.cat([precision.flip(0).cummax(0).values.flip(0), precision.new_zeros(1, len(wanted))])
    recall = (right / wanted.clamp(min=1)).T.contiguous()
    first = torch.searchsorted(recall, RECALLS.to(recall).expand(len(wanted), -1).contiguous())
    return torch.where(wanted > 0, best.gather(0, first.T).mean(0), torch.nan)


def match_tracks(
    iou: Tensor,
    scores: Sequence[float],
    categories: Sequence[int],
    target_categories: Sequence[int],
    areas: Tensor,
    target_areas: Tensor,
    crowd: Sequence[bool] | None = None,
    video: int = 0,
    most: int | None = MOST[-1],
) -> dict[str, Tensor]:
    """Which detections of one video are right, at each threshold and in each range of areas.

    Of each category the ``most`` best detections are looked at, in the order of their scores. Each takes the free true
    track with the highest IoU, at least the threshold; of equals the last one. Only where there is none does it take
    one that does not count, and then does not count itself: a track outside the range of areas, or a crowd, which may
    be taken again and again. Neither does a detection count that takes none and is itself outside the range.

    Args:
        iou: (P, G), of detections and true tracks. One track may be several detections, of different categories.
        scores: (P,).
        categories: (P,).
        target_categories: (G,).
        areas: (P,), mean areas in pixels over the frames that show the track.
        target_areas: (G,); the official program takes what the annotation says.
        crowd: (G,); default: none is.
        video: place of the video in the split, which decides between equal scores.
        most: detections of a category; None: all.

    Returns:
        The arguments of ``VISMetrics.extend``, float64, the N kept detections and true tracks last: ``category``;
        ``score``, NaN of a true track; ``video``; ``rank``, place in the video and category from 0, -1 of a true track;
        ``outcome`` (4, 10, N): of a detection 1 right, 0 wrong, NaN does not count; of a true track 1, or NaN.
    """
    overlap, groups = iou.numpy(), np.array([False] * len(target_categories) if crowd is None else crowd, dtype=bool)
    keys: list[tuple[float, float, float]] = []
    outcomes: list[np.ndarray] = []
    ranges = np.array(list(AREAS.values()))[:, :, None]
    outside, outside_true = ((a < ranges[:, 0]) | (a > ranges[:, 1]) for a in (areas.numpy(), target_areas.numpy()))
    for category in sorted({*categories, *target_categories}):
        true = [k for k, kind in enumerate(target_categories) if kind == category]
        said = [k for k, kind in enumerate(categories) if kind == category]
        said = sorted(said, key=lambda k: -scores[k])[:most]
        ignored = outside_true[:, true] | groups[true]
        keys += [(category, scores[k], rank) for rank, k in enumerate(said)] + [(category, np.nan, -1)] * len(true)
        table = np.full((len(AREAS), len(THRESHOLDS), len(said) + len(true)), np.nan)
        for a, t in np.ndindex(table.shape[:2]):
            shared = overlap[np.ix_(said, true)]
            table[a, t, : len(said)] = _match(shared, THRESHOLDS[t], ignored[a], groups[true], outside[a, said])
        table[:, :, len(said) :] = np.where(ignored, np.nan, 1.0)[:, None]
        outcomes.append(table)
    kept = torch.tensor(keys, dtype=torch.float64).reshape(-1, 3).T
    outcome = np.concatenate([np.zeros((len(AREAS), len(THRESHOLDS), 0)), *outcomes], axis=2)
    first = {"category": kept[0], "score": kept[1], "video": torch.full_like(kept[0], video), "rank": kept[2]}
    return {**first, "outcome": torch.from_numpy(outcome)}


def _match(
    iou: np.ndarray, threshold: float, ignored: np.ndarray, crowd: np.ndarray, outside: np.ndarray
) -> np.ndarray:
    """Outcome of each of P detections, best first; see ``match_tracks``."""
    free = np.ones(len(ignored), dtype=bool)
    outcome = np.where(outside, np.nan, 0.0)
    fits = iou >= threshold
    for k in fits.any(1).nonzero()[0]:
        able = fits[k] & free
        wanted = able & ~ignored if (able & ~ignored).any() else able
        if wanted.any():
            best = np.flatnonzero(wanted & (iou[k] == iou[k, wanted].max()))[-1]
            outcome[k] = np.nan if ignored[best] else 1.0
            free[best] = crowd[best]
    return outcome
