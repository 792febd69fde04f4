"""The measures of the VOTS challenges as a torchmetric.

Source: Kristan et al., "The First Visual Object Tracking Segmentation VOTS2023 Challenge Results", ICCVW 2023; where it
leaves something open, what vot-toolkit 0.9.0 does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from common.metrics.functional import region_similarity
from common.metrics.rows import RowMetric

NUMBERS = ("Quality", "Accuracy", "Robustness", "NRE", "DRE", "ADQ")
ABSENT_FRAMES = 10  # an object must be absent in more frames than these for its absence detection quality to count


class VOTSMetrics(RowMetric):
    """Quality, Accuracy, Robustness, not-reported error, drift-rate error and absence detection quality.

    Each is a mean over the objects of a sequence, then over sequences, all sequences counting alike. ``compute``
    returns fractions; ADQ is NaN where no object is absent in more than 10 frames.

    Args:
        init_frame: the frame in which an object is given. ``count``: nothing was reported there, and it is among the
            frames of the accuracy with overlap 0, as the toolkit has it, so a perfect tracker stays below 1. ``skip``:
            it does not count.
        toolkit_boxes: for ``update``, see ``measure_regions``.
        kwargs: those of ``torchmetrics.Metric``.
    """

    def __init__(self, init_frame: str = "count", toolkit_boxes: bool = False, **kwargs: Any) -> None:
        super().__init__(len(NUMBERS), **kwargs)
        if init_frame not in ("count", "skip"):
            raise ValueError(f"init_frame must be 'count' or 'skip', not {init_frame!r}")
        self.init_frame, self.toolkit_boxes = init_frame, toolkit_boxes

    def update(
        self,
        preds: Tensor,
        target: Tensor,
        known: Tensor | None = None,
        given: Tensor | None = None,
        ignore: Tensor | None = None,
    ) -> None:
        """Add one sequence.

        Args:
            preds: bool (T, N, H, W); an empty mask reports the object absent.
            target: bool (T, N, H, W); an empty mask says it is absent.
            known: bool (T, N), False where there is no ground truth; default: all known.
            given: bool (T, N), True where the object was given to the tracker; default: the first frame.
            ignore: bool (T, H, W), pixels that do not count.
        """
        void = None if ignore is None else ignore[:, None]
        overlap, present, reported = measure_regions(preds, target, void, self.toolkit_boxes)
        if known is not None:
            overlap = overlap.masked_fill(~known, torch.nan)
        if given is None:
            given = torch.zeros_like(overlap, dtype=torch.bool)
            given[0] = True
        self.extend(overlap, present, reported, given)

    def extend(self, overlap: Tensor, present: Tensor, reported: Tensor, given: Tensor) -> None:
        """Add one sequence whose frames are already measured. An object for which no frame counts is left out.

        Args:
            overlap: (T, N) in [0, 1]; NaN where the frame does not count for the object.
            present: (T, N), 1 where the object is in the frame, else 0.
            reported: (T, N), 1 where the tracker reports it, else 0.
            given: (T, N), 1 where the object was given to the tracker, whose answer is then not looked at.
        """
        if overlap.ndim != 2 or not overlap.shape == present.shape == reported.shape == given.shape:
            shapes = ", ".join(str(tuple(values.shape)) for values in (overlap, present, reported, given))
            raise ValueError(f"overlap, present, reported and given must all be (T, N), not {shapes}")
        states = present.bool(), reported.bool() & ~given.bool(), given.bool()
        values = self._without_given(overlap.double(), states[0], states[2])
        counted = ~values.isnan().all(0)
        if counted.any():
            rows = per_object(values[:, counted], *(state[:, counted] for state in states))
            self.add(_mean(rows)[None])

    def compute(self) -> dict[str, Tensor]:
        """The table's numbers as float64 scalars; NaN before the first sequence."""
        return dict(zip(NUMBERS, _mean(self.rows.reshape(-1, self.width)), strict=True))

    def _without_given(self, overlap: Tensor, present: Tensor, given: Tensor) -> Tensor:
        if self.init_frame == "skip":
            return overlap.masked_fill(given, torch.nan)
        nothing = torch.where(overlap.isnan(), torch.nan, (~present).double())
        return torch.where(given, nothing, overlap)


def measure_regions(
    preds: Tensor, target: Tensor, void: Tensor | None = None, toolkit_boxes: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """What a frame says about an object: overlap in [0, 1], and whether it is there and whether it is reported, 0 or 1.

    The overlap is the intersection over union without the void pixels, 1 where both are empty; void pixels do not
    make an object absent.

    Args:
        preds: bool (..., H, W).
        target: bool (..., H, W).
        void: bool, broadcastable to them, pixels that do not count.
        toolkit_boxes: take thin regions for empty as vot-toolkit 0.9.0 does with regions from files: a region one
            pixel wide or high counts as absent, one in the first row or column is lost, and two regions whose common
            box is one pixel wide or high overlap by 1. Use it to compare with that tool.

    Returns:
        Three float64 (...).
    """
    present, reported = (mask.flatten(-2).any(-1) for mask in (target, preds))
    if toolkit_boxes:
        preds, target = preds & ~_at_edge(preds), target & ~_at_edge(target)
        present, reported = (~_thin(mask) for mask in (target, preds))
    overlap = region_similarity(preds, target, void)
    if toolkit_boxes:
        overlap = torch.where(_thin(preds | target), 1.0, overlap)
    return overlap, present.double(), reported.double()


def count_frames(overlap: Tensor, present: Tensor, reported: Tensor) -> Tensor:
    """Frames of each object that are tracked, failed, missed, hallucinated and correctly absent: int64 (5, N).

    Args:
        overlap: (T, N), NaN where the frame does not count.
        present: bool (T, N).
        reported: bool (T, N).
    """
    known, hit = ~overlap.isnan(), overlap > 0
    lost, absent = known & present & ~hit, known & ~present
    states = known & present & hit, lost & reported, lost & ~reported, absent & reported, absent & ~reported
    return torch.stack([state.sum(0) for state in states])


def per_object(overlap: Tensor, present: Tensor, reported: Tensor, given: Tensor) -> Tensor:
    """The numbers of each object, float64 (N, 6) in the order of ``NUMBERS``, NaN where one is undefined.

    Arguments are those of ``count_frames``, and ``given``, bool (T, N), the frames that the accuracy takes in although
    nothing was met there. The accuracy of an object that is never met is 0.
    """
    tracked, failed, missed, imagined, absent = count_frames(overlap, present, reported).double()
    quality = overlap.nanmean(0)
    taken = present & (given & ~overlap.isnan() | (overlap > 0))
    accuracy = torch.where(taken, overlap, 0.0).sum(0) / taken.sum(0).clamp(min=1)
    shown, hidden = tracked + failed + missed, imagined + absent
    detected = torch.where(hidden > ABSENT_FRAMES, absent / hidden, torch.nan)
    return torch.stack([quality, accuracy, tracked / shown, missed / shown, failed / shown, detected], 1)


def success_plot(overlap: Tensor, thresholds: int = 100) -> Tensor:
    """The share of frames whose overlap is above each threshold, as a mean over the objects of a sequence.

    Average it over sequences. Source: vot-toolkit 0.9.0; at threshold 1 an overlap of 1 counts.

    Args:
        overlap: (T, N) in [0, 1], NaN where the frame does not count.
        thresholds: how many, evenly from 0 to 1.

    Returns:
        float64 (thresholds,).
    """
    levels = torch.linspace(0, 1, thresholds, dtype=torch.float64, device=overlap.device)[:, None, None]
    above = torch.where(levels < 1, overlap > levels, overlap >= 1).double()
    return above.masked_fill(overlap.isnan(), torch.nan).nanmean(1).nanmean(1)


def _mean(rows: Tensor) -> Tensor:
    """Mean over rows (K, D) without the NaN, whatever their order; NaN where there is nothing."""
    return rows.sort(0).values.nanmean(0)


def _thin(masks: Tensor) -> Tensor:
    """Whether a mask's box is at most one pixel wide or high: bool (...) of (..., H, W)."""
    return (masks.any(-1).sum(-1) <= 1) | (masks.any(-2).sum(-1) <= 1)


def _at_edge(masks: Tensor) -> Tensor:
    """Whether a mask lies wholly in the first row or in the first column: bool (..., 1, 1) of (..., H, W)."""
    inner = masks[..., 1:, :].flatten(-2).any(-1) & masks[..., :, 1:].flatten(-2).any(-1)
    return ~inner[..., None, None]
