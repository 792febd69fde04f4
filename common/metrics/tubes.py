"""Intersections of tracks and of panoptic segments, counted frame by frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

EXACT = 1 << 24  # largest integer up to which float32 counts exactly


@dataclass(frozen=True, eq=False)
class Segments:
    """One frame of a panoptic segmentation.

    Attributes:
        ids: integer (H, W), segment id of every pixel, 0 for none. A segment keeps its id through the video.
        categories: class index of each segment of the frame, in the order of listing.
        crowd: ids of segments that are groups of objects.

    Raises:
        ValueError: ``ids`` is not an integer map, or 0 is listed as a segment.
    """

    ids: Tensor
    categories: dict[int, int]
    crowd: frozenset[int] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or self.ids.is_floating_point() or 0 in self.categories:
            actual = f"{self.ids.dtype} {tuple(self.ids.shape)}"
            raise ValueError(f"ids must be integers (H, W), not {actual}, and 0 is no segment")


def common_pixels(pred: Segments, target: Segments) -> Counter[tuple[int, int]]:
    """Count the pixels of each non-empty intersection of a predicted and a true segment; id 0 means none.

    Args:
        pred: predicted segments.
        target: annotated segments.

    Raises:
        ValueError: the maps differ in size, or a pixel belongs to a segment that is not listed.
    """
    if pred.ids.shape != target.ids.shape:
        raise ValueError(f"maps must have one size, not {tuple(pred.ids.shape)} and {tuple(target.ids.shape)}")
    (rows, pred_ids), (columns, target_ids) = (_segment_indices(segments) for segments in (pred, target))
    counts = torch.bincount(rows * len(target_ids) + columns, minlength=len(pred_ids) * len(target_ids))
    table = counts.view(len(pred_ids), len(target_ids))
    pairs = zip(table.nonzero().tolist(), table[table > 0].tolist(), strict=True)
    return Counter({(pred_ids[p], target_ids[t]): pixels for (p, t), pixels in pairs})


def _segment_indices(segments: Segments) -> tuple[Tensor, list[int]]:
    """Return the index of each pixel's segment among the sorted ids, int64 (H * W,), and these ids."""
    ids = torch.tensor(sorted({0, *segments.categories}), device=segments.ids.device)
    pixels = segments.ids.reshape(-1).long()
    indices = torch.searchsorted(ids, pixels).clamp(max=len(ids) - 1)
    if not (listed := ids[indices] == pixels).all():
        raise ValueError(f"segment {int(pixels[~listed][0])} is in the map, but has no category")
    return indices, ids.tolist()


class TrackOverlaps:
    """Intersections and areas of the tracks of one video, accumulated frame by frame.

    A track that is not passed for a frame is absent from it. Masks may overlap.
    """

    def __init__(self) -> None:
        self.common: Counter[tuple[int, int]] = Counter()
        # Of predicted and of true tracks: total pixels, and number of frames that contain the track.
        self.pixels: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
        self.frames: tuple[Counter[int], Counter[int]] = (Counter(), Counter())

    def add(self, preds: Tensor, target: Tensor, pred_ids: Sequence[int], target_ids: Sequence[int]) -> Tensor:
        """Add a frame.

        Args:
            preds: bool (P, H, W), predicted masks.
            target: bool (G, H, W), true masks.
            pred_ids: ids of the P predicted tracks.
            target_ids: ids of the G true tracks.

        Returns:
            IoU of the masks of this frame, float64 (P, G); 0 where both are empty.
        """
        shared = intersections(preds, target)
        for pred, row in zip(pred_ids, shared.tolist(), strict=True):
            for true, common in zip(target_ids, row, strict=True):
                self.common[pred, true] += common
        areas = [masks.flatten(1).sum(1) for masks in (preds, target)]
        for side, ids in enumerate((pred_ids, target_ids)):
            for id, area in zip(ids, areas[side].tolist(), strict=True):
                self.pixels[side][id] += area
                self.frames[side][id] += area > 0
        return shared.double() / (areas[0][:, None] + areas[1] - shared).clamp(min=1)

    def iou(self, pred_ids: Sequence[int], target_ids: Sequence[int]) -> Tensor:
        """Return the sum of intersections over the sum of unions, float64 (P, G); 0 where the union is empty.

        Args:
            pred_ids: ids of P predicted tracks.
            target_ids: ids of G true tracks.
        """
        common = [[self.common[pred, true] for true in target_ids] for pred in pred_ids]
        predicted, true = (
            torch.tensor([pixels[id] for id in ids]).long()
            for pixels, ids in zip(self.pixels, (pred_ids, target_ids), strict=True)
        )
        intersection = torch.tensor(common, dtype=torch.float64).reshape(len(pred_ids), len(target_ids))
        return intersection / (predicted[:, None] + true - intersection).clamp(min=1)

    def mean_areas(self, ids: Sequence[int], *, true: bool = False) -> Tensor:
        """Return the mean area of tracks over the frames that contain them, float64 (N,); 0 for tracks without pixels.

        Args:
            ids: ids of N tracks.
            true: the ids are those of true tracks. Otherwise they are those of predicted tracks.
        """
        pixels, frames = self.pixels[true], self.frames[true]
        return torch.tensor([pixels[id] / max(frames[id], 1) for id in ids], dtype=torch.float64)


def intersections(preds: Tensor, target: Tensor) -> Tensor:
    """Count the pixels of the intersection of each pair of masks.

    Args:
        preds: bool (P, H, W).
        target: bool (G, H, W).

    Returns:
        int64 (P, G).

    Raises:
        ValueError: the masks are not boolean or differ in size.
    """
    if preds.dtype != torch.bool or target.dtype != torch.bool or preds.shape[1:] != target.shape[1:]:
        raise ValueError(
            f"masks must be boolean (P, H, W) and (G, H, W), not {preds.dtype} {tuple(preds.shape)} and "
            f"{target.dtype} {tuple(target.shape)}"
        )
    exact = torch.float32 if preds[:1].numel() < EXACT else torch.float64
    return (preds.flatten(1).to(exact) @ target.flatten(1).to(exact).T).long()
