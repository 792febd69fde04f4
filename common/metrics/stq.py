"""Segmentation and tracking quality (STQ) of VIPSeg.

Source: Weber et al., "STEP: Segmenting and Tracking Every Pixel", NeurIPS 2021. Details that it leaves open follow the
evaluation program of VIPSeg.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from common.metrics.rows import RowMetric, unique_values
from common.metrics.tubes import Segments, common_pixels

VOID = -1


class STQMetrics(RowMetric):
    """STQ = sqrt(AQ x SQ), association quality times segmentation quality, both pooled over all videos.

    ``compute`` returns fractions: ``STQ``; ``AQ``, the mean over true tubes of things, 0 if there are none; ``SQ``, the
    mean IoU over classes that are annotated or predicted.

    Args:
        things: indices of the thing classes, used by ``update``.
        official_compat: reproduce the official program: labelled pixels predicted as void make void another class of
            SQ, with IoU 0, and the first tube of a video is excluded from AQ, see ``TubeFrames``.
        kwargs: arguments of ``torchmetrics.Metric``.
    """

    def __init__(self, things: Collection[int] = (), official_compat: bool = True, **kwargs: Any) -> None:
        super().__init__(6, **kwargs)
        self.things, self.official_compat = frozenset(things), official_compat

    def update(self, preds: Sequence[Segments], target: Sequence[Segments]) -> None:
        """Add one video.

        Args:
            preds: predicted segments of each annotated frame.
            target: annotated segments of the same frames.
        """
        frames = TubeFrames(self.things, self.official_compat)
        for frame in zip(preds, target, strict=True):
            frames.add(*frame)
        self.extend(**frames.result())

    def extend(
        self, category: Tensor, common: Tensor, predicted: Tensor, true: Tensor, tubes: Tensor, association: Tensor
    ) -> None:
        """Add results of ``TubeFrames`` for one or more videos.

        Args:
            category: (N,), class index, -1 for void.
            common: (N,), correctly predicted pixels of the class.
            predicted: (N,), pixels predicted as the class where the ground truth is not void.
            true: (N,), pixels of the class.
            tubes: (N,), number of true tubes of the class.
            association: (N,), sum of their association quality.

        Raises:
            ValueError: the shapes do not match.
        """
        columns = (category, common, predicted, true, tubes, association)
        if any(column.shape != (len(category),) for column in columns):
            raise ValueError(f"all must be (N,), not {', '.join(str(tuple(column.shape)) for column in columns)}")
        self.add(torch.stack([column.double() for column in columns], 1))

    def compute(self) -> dict[str, Tensor]:
        """Return the numbers as float64 scalars; NaN before the first video."""
        rows = self.sorted_rows()
        sums = [rows[rows[:, 0] == category, 1:4].sum(0) for category in unique_values(rows[:, 0])]
        # VOID is -1, so its sum comes first where there is one.
        void = bool((rows[:1, 0] == VOID).any()) and not self.official_compat
        common, predicted, true = torch.stack([*sums, rows.new_zeros(3)])[int(void) :].T
        union = predicted + true - common
        sq = (common / union)[union > 0].mean()
        tubes, association = rows[:, 4:].sum(0)
        aq = association / (tubes.clamp(min=1) if len(rows) else tubes)
        return {"STQ": (aq * sq).sqrt(), "AQ": aq, "SQ": sq}


class TubeFrames:
    """Pixel counts of one video, accumulated frame by frame.

    A tube consists of all pixels of one segment and class in the video; a segment whose class changes forms several
    tubes. The association quality of a true tube g is the sum over predicted tubes p of any thing class of
    TPA^2 / (|g| + |p| - TPA) / |g|, with TPA the size of their intersection. Pixels of p on void count in |p|, those on
    a crowd do not.

    Args:
        things: indices of the thing classes.
        official_compat: reproduce the official program, which numbers the segments of a video from 0 in the order of
            listing and treats 0 as crowd: the first true segment is a crowd, if it is a thing, and no other. Otherwise
            crowds are those of ``Segments``.
    """

    def __init__(self, things: Collection[int], official_compat: bool = True) -> None:
        self.things, self.official_compat = frozenset(things), official_compat
        self.first: int | None = None
        self.common, self.predicted, self.true = (Counter[int]() for _ in range(3))  # class -> pixels
        # A tube is (class, segment). Pixels of predicted and of true tubes, and of the intersections by true tube.
        self.tubes = Counter[tuple[int, int]](), Counter[tuple[int, int]]()
        self.shared: dict[tuple[int, int], Counter[tuple[int, int]]] = {}

    def add(self, pred: Segments, target: Segments) -> None:
        """Add a frame.

        Args:
            pred: predicted segments.
            target: annotated segments.

        Raises:
            ValueError: the maps differ in size, or a pixel belongs to a segment that is not listed.
        """
        if self.first is None:
            self.first = next(iter(target.categories), None)
        crowd = {self.first} if self.official_compat else target.crowd
        for (predicted_id, true_id), pixels in common_pixels(pred, target).items():
            predicted, true = pred.categories.get(predicted_id, VOID), target.categories.get(true_id, VOID)
            if true != VOID:
                self.predicted[predicted] += pixels
                self.true[true] += pixels
                self.common[true] += pixels * (predicted == true)
            if true in self.things and true_id in crowd:
                continue
            if predicted in self.things:
                self.tubes[0][predicted, predicted_id] += pixels
            if true in self.things:
                self.tubes[1][true, true_id] += pixels
                if predicted in self.things:
                    self.shared.setdefault((true, true_id), Counter())[predicted, predicted_id] += pixels

    def result(self) -> dict[str, Tensor]:
        """Return the arguments of ``STQMetrics.extend``, float64, one column per class and one for void."""
        association: dict[int, float] = {}
        for (category, id), shared in self.shared.items():
            size = self.tubes[1][category, id]
            terms = (tpa**2 / (size + self.tubes[0][pred] - tpa) for pred, tpa in shared.items())
            association[category] = association.get(category, 0) + sum(terms) / size
        tubes = Counter(category for category, _ in self.tubes[1])
        counts = (self.common, self.predicted, self.true, tubes)
        categories = sorted({VOID, *self.predicted, *self.true})
        rows = [[c, *(count[c] for count in counts), association.get(c, 0)] for c in categories]
        columns = torch.tensor(rows, dtype=torch.float64).T
        return dict(zip(("category", "common", "predicted", "true", "tubes", "association"), columns, strict=True))
