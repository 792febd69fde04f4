"""Video panoptic quality (VPQ) of VIPSeg.

Source: Kim et al., "Video Panoptic Segmentation", CVPR 2020; where it leaves something open, what the evaluation
program of VIPSeg does.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common.metrics.rows import RowMetric
from common.metrics.tubes import Segments, common_pixels

WINDOWS = (1, 2, 4, 6, 8)  # frames; those of the program of VIPSeg. Some papers stop at 6.


class VPQMetrics(RowMetric):
    """Panoptic quality of tubes in sliding windows, pooled over all windows of all videos.

    For each length of window and class, PQ is the sum of the IoU of matched tubes over TP + FP / 2 + FN / 2; it is
    averaged over the classes that occur, and then over lengths. ``compute`` returns fractions: ``VPQ``, ``SQ``, ``RQ``;
    the same with ``_thing`` and ``_stuff`` over these classes alone; ``VPQ1``, ``VPQ2``, ... of one length. NaN where
    no class occurs, also if that is so for one length only.

    Args:
        things: the classes of countable objects.
        windows: lengths of windows in frames.
        official_compat: for ``update``, see ``PanopticWindows``.
        kwargs: those of ``torchmetrics.Metric``.
    """

    def __init__(
        self, things: Collection[int], windows: Sequence[int] = WINDOWS, official_compat: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(6, **kwargs)
        self.things, self.windows, self.official_compat = frozenset(things), tuple(windows), official_compat

    def update(self, preds: Sequence[Segments], target: Sequence[Segments]) -> None:
        """Add one video, all its annotated frames."""
        windows = PanopticWindows(self.windows, self.official_compat)
        for frame in zip(preds, target, strict=True):
            windows.add(*frame)
        self.extend(**windows.result())

    def extend(self, window: Tensor, category: Tensor, iou: Tensor, tp: Tensor, fp: Tensor, fn: Tensor) -> None:
        """Add what ``PanopticWindows`` has measured of one or more videos, (N,) each."""
        columns = (window, category, iou, tp, fp, fn)
        if any(column.shape != (len(window),) for column in columns):
            raise ValueError(f"all must be (N,), not {', '.join(str(tuple(column.shape)) for column in columns)}")
        self.add(torch.stack([column.double() for column in columns], 1))

    def compute(self) -> dict[str, Tensor]:
        """The table's numbers as float64 scalars; NaN before the first video."""
        rows = self.sorted_rows()
        each = torch.stack([self._classes(rows[rows[:, 0] == window]) for window in self.windows])
        names = [f"{name}{classes}" for classes in ("", "_thing", "_stuff") for name in ("VPQ", "SQ", "RQ")]
        out = dict(zip(names, each.mean(0), strict=True))
        return out | {f"VPQ{window}": value for window, value in zip(self.windows, each[:, 0], strict=True)}

    def _classes(self, rows: Tensor) -> Tensor:
        """PQ, SQ and RQ over all classes, things and stuff, (9,), of the rows of one length of window."""
        categories = rows[:, 1].unique()
        sums = [rows[rows[:, 1] == category, 2:].sum(0) for category in categories]
        iou, tp, fp, fn = torch.stack([*sums, rows.new_zeros(4)])[:-1].unbind(1)
        half = tp + fp / 2 + fn / 2
        quality = torch.stack([iou / half, iou / tp.clamp(min=1), tp / half], 1)
        thing = torch.tensor([int(c) in self.things for c in categories], dtype=torch.bool, device=rows.device)
        return torch.cat([some.mean(0) for some in (quality, quality[thing], quality[~thing])])


class _Frame(NamedTuple):
    """What is kept of a frame, or of several: pixels in common, the classes of segments, and the crowds."""

    common: Counter[tuple[int, int]]
    said: dict[int, int]
    true: dict[int, int]
    crowd: frozenset[int]


class PanopticWindows:
    """Matches the tubes of one video in sliding windows while its frames stream in; keeps counts of pixels only.

    A tube is all pixels of a segment in the window. A predicted and a true tube match if they are of one class, the
    true one is no crowd, and the IoU is above 0.5, where predicted pixels on void do not count. A true tube without
    match is missed, unless it is a crowd; a predicted one is wrong, unless more than half of it lies on void or on
    crowds of its class. Of a segment whose class changes, the class in the first frame of the window holds.

    Args:
        windows: lengths in frames. A video that is shorter than one contributes nothing to it.
        official_compat: of several crowds of one class, only the last that is listed counts.
    """

    def __init__(self, windows: Sequence[int] = WINDOWS, official_compat: bool = True) -> None:
        self.official_compat = official_compat
        self.windows = tuple(windows)
        self.frames: deque[_Frame] = deque(maxlen=max(windows))
        self.sums: dict[tuple[int, int], list[float]] = {}

    def add(self, pred: Segments, target: Segments) -> None:
        """Add a frame.

        Raises:
            ValueError: maps of different sizes, or a pixel of a segment that is not listed.
        """
        self.frames.append(_Frame(common_pixels(pred, target), pred.categories, target.categories, target.crowd))
        window = _Frame(Counter(), {}, {}, frozenset())
        for length, frame in enumerate(reversed(self.frames), 1):
            window.common.update(frame.common)
            said, true = (
                older | newer | older  # in the order of the frames, with the classes of the older
                for older, newer in ((frame.said, window.said), (frame.true, window.true))
            )
            window = _Frame(window.common, said, true, window.crowd | frame.crowd)
            if length in self.windows:
                self._match(length, window)

    def _match(self, length: int, window: _Frame) -> None:
        common, crowd = window.common, window.crowd
        said, true = Counter[int](), Counter[int]()
        for (pred, target), pixels in common.items():
            said[pred] += pixels
            true[target] += pixels
        matched, found = {0}, {0, *crowd}
        for (pred, target), pixels in common.items():
            category = window.true.get(target)
            if category is None or target in crowd or category != window.said.get(pred):
                continue
            iou = pixels / (said[pred] + true[target] - pixels - common[pred, 0])
            if iou > 0.5:
                matched.add(pred)
                found.add(target)
                self._count(length, category, iou, 1, 0, 0)
        for target in true.keys() - found:
            self._count(length, window.true[target], 0, 0, 0, 1)
        for pred in said.keys() - matched:
            category = window.said[pred]
            crowds = [some for some, kind in window.true.items() if some in crowd and kind == category]
            if self.official_compat:
                crowds = crowds[-1:]
            free = common[pred, 0] + sum(common[pred, some] for some in crowds)
            if free <= said[pred] / 2:
                self._count(length, category, 0, 0, 1, 0)

    def _count(self, length: int, category: int, *more: float) -> None:
        sums = self.sums.setdefault((length, category), [0.0] * 4)
        sums[:] = [a + b for a, b in zip(sums, more, strict=True)]

    def result(self) -> dict[str, Tensor]:
        """The arguments of ``VPQMetrics.extend``, float64: a column for each length of window and class that occurs."""
        rows = [[*key, *sums] for key, sums in sorted(self.sums.items())]
        columns = torch.tensor(rows, dtype=torch.float64).reshape(-1, 6).T
        return dict(zip(("window", "category", "iou", "tp", "fp", "fn"), columns, strict=True))
