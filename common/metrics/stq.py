"""Segmentation and tracking quality (STQ) of VIPSeg.

Source: Weber et al., "STEP: Segmenting and Tracking Every Pixel", NeurIPS 2021; where it leaves something open, what
the evaluation program of VIPSeg does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from common.metrics.rows import RowMetric
from common.metrics.tubes import Segments, common_pixels

VOID = -1


class STQMetrics(RowMetric):
    """STQ, the root of association quality (AQ) times segmentation quality (SQ), both pooled over all videos.

    ``compute`` returns fractions: ``STQ``, ``AQ``, the mean over true tubes of things, 0 if there are none, and ``SQ``,
    the mean IoU over classes that are there or predicted.

    Args:
        things: the classes of countable objects, for ``update``.
        official_compat: labelled pixels that are predicted to be void make void one more class of SQ, with IoU 0; and
            the first tube of a video is not taken for AQ, see ``TubeFrames``.
        kwargs: those of ``torchmetrics.Metric``.
    """

    def __init__(self, things: Collection[int] = (), official_compat: bool = True, **kwargs: Any) -> None:
        super().__init__(6, **kwargs)
        self.things, self.official_compat = frozenset(things), official_compat

    def update(self, preds: Sequence[Segments], target: Sequence[Segments]) -> None:
        """Add one video, all its annotated frames."""
        frames = TubeFrames(self.things, self.official_compat)
        for frame in zip(preds, target, strict=True):
            frames.add(*frame)
        self.extend(**frames.result())

    def extend(
        self, category: Tensor, common: Tensor, said: Tensor, true: Tensor, tubes: Tensor, association: Tensor
    ) -> None:
        """Add what ``TubeFrames`` has measured of one or more videos, (N,) each."""
        columns = (category, common, said, true, tubes, association)
        if any(column.shape != (len(category),) for column in columns):
            raise ValueError(f"all must be (N,), not {', '.join(str(tuple(column.shape)) for column in columns)}")
        self.add(torch.stack([column.double() for column in columns], 1))

    def compute(self) -> dict[str, Tensor]:
        """The table's numbers as float64 scalars; NaN before the first video."""
        rows = self.sorted_rows()
        sums = [rows[rows[:, 0] == category, 1:4].sum(0) for category in rows[:, 0].unique()]
        void = bool((rows[:1, 0] == VOID).any()) and not self.official_compat
        common, said, true = torch.stack([*sums, rows.new_zeros(3)])[int(void) :].T
        union = said + true - common
        sq = (common / union)[union > 0].mean()
        tubes, association = rows[:, 4:].sum(0)
        aq = association / (tubes.clamp(min=1) if len(rows) else tubes)
        return {"STQ": (aq * sq).sqrt(), "AQ": aq, "SQ": sq}


class TubeFrames:
    """Counts of one video while its frames stream in.

    A tube is all pixels of a segment and a class in the video, so one whose class changes is several. The association
    quality of a true tube g is the sum over predicted tubes p, of whatever class of things, of
    TPA^2 / (|g| + |p| - TPA) / |g|, TPA = |g and p|. Pixels of p on void count in |p|; those on a crowd do not.

    Args:
        things: the classes of countable objects.
        official_compat: the program numbers the segments of a video from 0 in the order in which they are listed, and
            takes 0 for a crowd; so the first true segment is one, if it is a thing, and no other. If false, crowds are
            those that ``Segments`` says.
    """

    def __init__(self, things: Collection[int], official_compat: bool = True) -> None:
        self.things, self.official_compat = frozenset(things), official_compat
        self.first: int | None = None
        self.common, self.said, self.true = (Counter[int]() for _ in range(3))  # pixels of a class
        self.tubes = Counter[tuple[int, int]](), Counter[tuple[int, int]]()  # pixels of predicted and of true ones
        self.shared: dict[tuple[int, int], Counter[tuple[int, int]]] = {}  # with each predicted tube, by true tube

    def add(self, pred: Segments, target: Segments) -> None:
        """Add a frame.

        Raises:
            ValueError: maps of different sizes, or a pixel of a segment that is not listed.
        """
        if self.first is None:
            self.first = next(iter(target.categories), None)
        crowd = {self.first} if self.official_compat else target.crowd
        for (said_id, true_id), pixels in common_pixels(pred, target).items():
            said, true = pred.categories.get(said_id, VOID), target.categories.get(true_id, VOID)
            if true != VOID:
                self.said[said] += pixels
                self.true[true] += pixels
                self.common[true] += pixels * (said == true)
            if true in self.things and true_id in crowd:
                continue
            if said in self.things:
                self.tubes[0][said, said_id] += pixels
            if true in self.things:
                self.tubes[1][true, true_id] += pixels
                if said in self.things:
                    self.shared.setdefault((true, true_id), Counter())[said, said_id] += pixels

    def result(self) -> dict[str, Tensor]:
        """The arguments of ``STQMetrics.extend``, float64: a column for each class, and -1 for void.

        Of a class, ``common``, ``said`` and ``true`` are pixels that are rightly predicted to be of it, predicted to be
        where the ground truth is not void, and of it; ``tubes`` its true tubes; ``association`` the sum of the
        association quality of these.
        """
        association: dict[int, float] = {}
        for (category, id), shared in self.shared.items():
            size = self.tubes[1][category, id]
            terms = (tpa**2 / (size + self.tubes[0][pred] - tpa) for pred, tpa in shared.items())
            association[category] = association.get(category, 0) + sum(terms) / size
        tubes = Counter(category for category, _ in self.tubes[1])
        counts = (self.common, self.said, self.true, tubes)
        categories = sorted({VOID, *self.said, *self.true})
        rows = [[c, *(count[c] for count in counts), association.get(c, 0)] for c in categories]
        columns = torch.tensor(rows, dtype=torch.float64).T
        return dict(zip(("category", "common", "said", "true", "tubes", "association"), columns, strict=True))
