"""Video panoptic quality (VPQ) of VIPSeg.

Source: Kim et al., "Video Panoptic Segmentation", CVPR 2020. Details that it leaves open follow the evaluation program
of VIPSeg.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common.metrics.rows import RowMetric, unique_values
from common.metrics.tubes import Segments, common_pixels

WINDOWS = (1, 2, 4, 6, 8)  # frames, as in the program of VIPSeg; some papers use windows of up to 6 frames


class VPQMetrics(RowMetric):
    """Panoptic quality of tubes in sliding windows, pooled over all windows of all videos.

    For each window length and class, PQ is the sum of the IoU of matched tubes over TP + FP / 2 + FN / 2; it is
    averaged over the classes that occur, then over window lengths. ``compute`` returns fractions: ``VPQ``, ``SQ``,
    ``RQ``; the same with suffixes ``_thing`` and ``_stuff`` over these classes only; ``VPQ1``, ``VPQ2``, ... for single
    window lengths. A number is NaN if no class occurs for any of its window lengths.

    Args:
        things: indices of the thing classes.
        windows: window lengths in frames.
        official_compat: used by ``update``, see ``PanopticWindows``.
        kwargs: arguments of ``torchmetrics.Metric``.
    """

    def __init__(
        self, things: Collection[int], windows: Sequence[int] = WINDOWS, official_compat: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(6, **kwargs)
        self.things, self.windows, self.official_compat = frozenset(things), tuple(windows), official_compat

    def update(self, preds: Sequence[Segments], target: Sequence[Segments]) -> None:
        """Add one video.

        Args:
            preds: predicted segments of each annotated frame.
            target: annotated segments of the same frames.
        """
        windows = PanopticWindows(self.windows, self.official_compat)
        for frame in zip(preds, target, strict=True):
            windows.add(*frame)
        self.extend(**windows.result())

    def extend(self, window: Tensor, category: Tensor, iou: Tensor, tp: Tensor, fp: Tensor, fn: Tensor) -> None:
        """Add results of ``PanopticWindows`` for one or more videos.

        Args:
            window: (N,), window length in frames.
            category: (N,), class index.
            iou: (N,), sum of the IoU of matched tubes.
            tp: (N,), matched tubes.
            fp: (N,), unmatched predicted tubes.
            fn: (N,), unmatched true tubes.

        Raises:
            ValueError: the shapes do not match.
        """
        columns = (window, category, iou, tp, fp, fn)
        if any(column.shape != (len(window),) for column in columns):
            raise ValueError(f"all must be (N,), not {', '.join(str(tuple(column.shape)) for column in columns)}")
        self.add(torch.stack([column.double() for column in columns], 1))

    def compute(self) -> dict[str, Tensor]:
        """Return the numbers as float64 scalars; NaN before the first video."""
        rows = self.sorted_rows()
        each = torch.stack([self._classes(rows[rows[:, 0] == window]) for window in self.windows])
        names = [f"{name}{classes}" for classes in ("", "_thing", "_stuff") for name in ("VPQ", "SQ", "RQ")]
        out = dict(zip(names, each.mean(0), strict=True))
        return out | {f"VPQ{window}": value for window, value in zip(self.windows, each[:, 0], strict=True)}

    def _classes(self, rows: Tensor) -> Tensor:
        """Return PQ, SQ and RQ over all classes, things and stuff, (9,), for the rows of one window length."""
        categories = unique_values(rows[:, 1])
        sums = [rows[rows[:, 1] == category, 2:].sum(0) for category in categories]
        iou, tp, fp, fn = torch.stack([*sums, rows.new_zeros(4)])[:-1].unbind(1)
        denominator = tp + fp / 2 + fn / 2
        quality = torch.stack([iou / denominator, iou / tp.clamp(min=1), tp / denominator], 1)
        thing = torch.tensor([int(c) in self.things for c in categories], dtype=torch.bool, device=rows.device)
        return torch.cat([classes.mean(0) for classes in (quality, quality[thing], quality[~thing])])


class _Frame(NamedTuple):
    """Pixel counts of one or several frames.

    Attributes:
        common: pixels of each intersection of a predicted and a true segment.
        predicted: class of each predicted segment.
        true: class of each true segment.
        crowd: ids of true segments that are crowds.
    """

    common: Counter[tuple[int, int]]
    predicted: dict[int, int]
    true: dict[int, int]
    crowd: frozenset[int]


class PanopticWindows:
    """Matching of the tubes of one video in sliding windows, frame by frame; stores pixel counts only.

    A tube consists of all pixels of a segment in the window. A predicted and a true tube match if they have the same
    class, the true one is not a crowd, and the IoU exceeds 0.5, without predicted pixels on void. An unmatched true
    tube is a false negative unless it is a crowd; an unmatched predicted tube is a false positive unless more than half
    of it lies on void or on crowds of its class. A segment whose class changes has the class of the window's first
    frame.

    Args:
        windows: window lengths in frames. A video shorter than a window does not contribute to it.
        official_compat: reproduce the official program: of several crowds of one class, only the last listed counts.
    """

    def __init__(self, windows: Sequence[int] = WINDOWS, official_compat: bool = True) -> None:
        self.official_compat = official_compat
        self.windows = tuple(windows)
        self.frames: deque[_Frame] = deque(maxlen=max(windows))
        self.sums: dict[tuple[int, int], list[float]] = {}

    def add(self, pred: Segments, target: Segments) -> None:
        """Add a frame.

        Args:
            pred: predicted segments.
            target: annotated segments.

        Raises:
            ValueError: the maps differ in size, or a pixel belongs to a segment that is not listed.
        """
        self.frames.append(_Frame(common_pixels(pred, target), pred.categories, target.categories, target.crowd))
        # Extend the window backwards frame by frame, so that all window lengths ending here share the sums.
        window = _Frame(Counter(), {}, {}, frozenset())
        for length, frame in enumerate(reversed(self.frames), 1):
            window.common.update(frame.common)
            predicted, true = (
                older | newer | older  # in the order of the frames, with the classes of the older ones
                for older, newer in ((frame.predicted, window.predicted), (frame.true, window.true))
            )
            window = _Frame(window.common, predicted, true, window.crowd | frame.crowd)
            if length in self.windows:
                self._match(length, window)

    def _match(self, length: int, window: _Frame) -> None:
        common, crowd = window.common, window.crowd
        predicted, true = Counter[int](), Counter[int]()
        for (pred, target), pixels in common.items():
            predicted[pred] += pixels
            true[target] += pixels
        matched, matched_true = {0}, {0, *crowd}
        for (pred, target), pixels in common.items():
            category = window.true.get(target)
            if category is None or target in crowd or category != window.predicted.get(pred):
                continue
            iou = pixels / (predicted[pred] + true[target] - pixels - common[pred, 0])
            if iou > 0.5:
                matched.add(pred)
                matched_true.add(target)
                self._count(length, category, iou, 1, 0, 0)
        for target in true.keys() - matched_true:
            self._count(length, window.true[target], 0, 0, 0, 1)
        for pred in predicted.keys() - matched:
            category = window.predicted[pred]
            crowds = [id for id, other in window.true.items() if id in crowd and other == category]
            if self.official_compat:
                crowds = crowds[-1:]
            ignored = common[pred, 0] + sum(common[pred, id] for id in crowds)
            if ignored <= predicted[pred] / 2:
                self._count(length, category, 0, 0, 1, 0)

    def _count(self, length: int, category: int, *terms: float) -> None:
        sums = self.sums.setdefault((length, category), [0.0] * 4)
        sums[:] = [a + b for a, b in zip(sums, terms, strict=True)]

    def result(self) -> dict[str, Tensor]:
        """Return the arguments of ``VPQMetrics.extend``, float64, one column per window length and class."""
        rows = [[*key, *sums] for key, sums in sorted(self.sums.items())]
        columns = torch.tensor(rows, dtype=torch.float64).reshape(-1, 6).T
        return dict(zip(("window", "category", "iou", "tp", "fp", "fn"), columns, strict=True))
