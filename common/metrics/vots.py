"""Measures of the VOTS challenges.

Source: Kristan et al., "The First Visual Object Tracking Segmentation VOTS2023 Challenge Results", ICCVW 2023. Details
that it leaves open follow vot-toolkit 0.9.0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from common.metrics.functional import region_similarity
from common.metrics.rows import RowMetric

NUMBERS = ("Quality", "Accuracy", "Robustness", "NRE", "DRE", "ADQ")
ABSENT_FRAMES = 10  # the absence detection quality counts for objects absent in more frames than this


class VOTSMetrics(RowMetric):
    """Quality, Accuracy, Robustness, not-reported error, drift-rate error and absence detection quality.

    Each is averaged over the objects of a sequence, then over sequences with equal weight. ``compute`` returns
    fractions; ADQ is NaN if no object is absent in more than 10 frames.

    Args:
        init_frame: treatment of the frame in which an object is initialised. ``count``: it counts as not reported, and
            towards the accuracy with overlap 0, as in the toolkit, so a perfect tracker stays below 1. ``skip``: it is
            excluded.
        toolkit_boxes: used by ``update``, see ``measure_regions``.
        kwargs: arguments of ``torchmetrics.Metric``.
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
        annotated: Tensor | None = None,
        initialised: Tensor | None = None,
        ignore: Tensor | None = None,
    ) -> None:
        """Add one sequence.

        Args:
            preds: predicted masks, bool (T, N, H, W); an empty mask reports the object as absent.
            target: annotated masks, bool (T, N, H, W); empty where the object is absent.
            annotated: bool (T, N), False where there is no ground truth; default: True everywhere.
            initialised: bool (T, N), True where the object is given to the tracker; default: in the first frame.
            ignore: bool (T, H, W), pixels excluded from scoring.
        """
        void = None if ignore is None else ignore[:, None]
        overlap, present, reported = measure_regions(preds, target, void, self.toolkit_boxes)
        if annotated is not None:
            overlap = overlap.masked_fill(~annotated, torch.nan)
        if initialised is None:
            initialised = torch.zeros_like(overlap, dtype=torch.bool)
            initialised[0] = True
        self.extend(overlap, present, reported, initialised)

    def extend(self, overlap: Tensor, present: Tensor, reported: Tensor, initialised: Tensor) -> None:
        """Add one sequence from per-frame values. An object without any scored frame is skipped.

        Args:
            overlap: (T, N) in [0, 1]; NaN where the frame does not count for the object.
            present: (T, N), 1 where the object is in the frame, else 0.
            reported: (T, N), 1 where the tracker reports it, else 0.
            initialised: (T, N), 1 where the object is given to the tracker, whose report is then disregarded.

        Raises:
            ValueError: the shapes do not match.
        """
        if overlap.ndim != 2 or not overlap.shape == present.shape == reported.shape == initialised.shape:
            shapes = ", ".join(str(tuple(values.shape)) for values in (overlap, present, reported, initialised))
            raise ValueError(f"overlap, present, reported and initialised must all be (T, N), not {shapes}")
        states = present.bool(), reported.bool() & ~initialised.bool(), initialised.bool()
        values = self._set_init_frame(overlap.double(), states[0], states[2])
        counted = ~values.isnan().all(0)
        if counted.any():
            rows = per_object(values[:, counted], *(state[:, counted] for state in states))
            self.add(_mean(rows)[None])

    def compute(self) -> dict[str, Tensor]:
        """Return the numbers as float64 scalars; NaN before the first sequence."""
        return dict(zip(NUMBERS, _mean(self.rows.reshape(-1, self.width)), strict=True))

    def _set_init_frame(self, overlap: Tensor, present: Tensor, initialised: Tensor) -> Tensor:
        """Replace the overlap of initialisation frames by NaN, or by that of an empty report."""
        if self.init_frame == "skip":
            return overlap.masked_fill(initialised, torch.nan)
        not_reported = torch.where(overlap.isnan(), torch.nan, (~present).double())
        return torch.where(initialised, not_reported, overlap)


def measure_regions(
    preds: Tensor, target: Tensor, void: Tensor | None = None, toolkit_boxes: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the overlap of masks, and whether each object is present and reported.

    The overlap is the intersection over union without void pixels, 1 where both masks are empty; void pixels do not
    make an object absent.

    Args:
        preds: predicted masks, bool (..., H, W).
        target: annotated masks, bool (..., H, W).
        void: bool, pixels excluded from scoring, broadcastable to the masks.
        toolkit_boxes: treat thin regions like vot-toolkit 0.9.0 treats regions from files: a region one pixel wide or
            high counts as absent, a region in the first row or column is lost, and two regions whose common box is one
            pixel wide or high have overlap 1. Use it for comparison with that tool.

    Returns:
        overlap in [0, 1], present and reported, 0 or 1; float64 (...) each.
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
    """Count the frames of each object that are tracked, failed, missed, hallucinated and correctly absent.

    Args:
        overlap: (T, N), NaN where the frame does not count.
        present: bool (T, N), the object is in the frame.
        reported: bool (T, N), the tracker reports it.

    Returns:
        int64 (5, N).
    """
    scored, hit = ~overlap.isnan(), overlap > 0
    lost, absent = scored & present & ~hit, scored & ~present
    states = scored & present & hit, lost & reported, lost & ~reported, absent & reported, absent & ~reported
    return torch.stack([state.sum(0) for state in states])


def per_object(overlap: Tensor, present: Tensor, reported: Tensor, initialised: Tensor) -> Tensor:
    """Compute the numbers of each object. The accuracy of an object that is never hit is 0.

    Args:
        overlap: (T, N), NaN where the frame does not count.
        present: bool (T, N), the object is in the frame.
        reported: bool (T, N), the tracker reports it.
        initialised: bool (T, N), frames that count towards the accuracy although they are not hit.

    Returns:
        float64 (N, 6) in the order of ``NUMBERS``, NaN where a number is undefined.
    """
    tracked, failed, missed, hallucinated, absent = count_frames(overlap, present, reported).double()
    quality = overlap.nanmean(0)
    selected = present & (initialised & ~overlap.isnan() | (overlap > 0))
    accuracy = torch.where(selected, overlap, 0.0).sum(0) / selected.sum(0).clamp(min=1)
    n_present, n_absent = tracked + failed + missed, hallucinated + absent
    adq = torch.where(n_absent > ABSENT_FRAMES, absent / n_absent, torch.nan)
    return torch.stack([quality, accuracy, tracked / n_present, missed / n_present, failed / n_present, adq], 1)


def success_plot(overlap: Tensor, thresholds: int = 100) -> Tensor:
    """Compute the success plot: the fraction of frames whose overlap exceeds each threshold.

    It is the mean over the objects of a sequence; average it over sequences. Source: vot-toolkit 0.9.0; at threshold 1
    an overlap of 1 counts.

    Args:
        overlap: (T, N) in [0, 1], NaN where the frame does not count.
        thresholds: number of thresholds, evenly spaced from 0 to 1.

    Returns:
        float64 (thresholds,).
    """
    levels = torch.linspace(0, 1, thresholds, dtype=torch.float64, device=overlap.device)[:, None, None]
    above = torch.where(levels < 1, overlap > levels, overlap >= 1).double()
    return above.masked_fill(overlap.isnan(), torch.nan).nanmean(1).nanmean(1)


def _mean(rows: Tensor) -> Tensor:
    """Return the mean over rows (K, D) without NaN; NaN where there is nothing else."""
    return rows.sort(0).values.nanmean(0)  # sorted, so that the result does not depend on the order of rows


def _thin(masks: Tensor) -> Tensor:
    """Return whether the bounding box of a mask (..., H, W) is at most one pixel wide or high, bool (...)."""
    return (masks.any(-1).sum(-1) <= 1) | (masks.any(-2).sum(-1) <= 1)


def _at_edge(masks: Tensor) -> Tensor:
    """Return whether a mask (..., H, W) lies entirely in the first row or column, bool (..., 1, 1)."""
    inner = masks[..., 1:, :].flatten(-2).any(-1) & masks[..., :, 1:].flatten(-2).any(-1)
    return ~inner[..., None, None]
