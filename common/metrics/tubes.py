"""Pixels that tracks, or the segments of panoptic maps, have in common, counted frame by frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

EXACT = 1 << 24  # pixels up to which float32 counts


@dataclass(frozen=True, eq=False)
class Segments:
    """One frame of a panoptic segmentation.

    Attributes:
        ids: integer (H, W), the segment of every pixel; 0: none. A segment keeps its id through the video.
        categories: category of each segment of the frame, from 0; in the order in which they are listed.
        crowd: segments that are groups of objects.
    """

    ids: Tensor
    categories: dict[int, int]
    crowd: frozenset[int] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or self.ids.is_floating_point() or 0 in self.categories:
            found = f"{self.ids.dtype} {tuple(self.ids.shape)}"
            raise ValueError(f"ids must be integers (H, W), not {found}, and 0 is no segment")


def common_pixels(pred: Segments, target: Segments) -> Counter[tuple[int, int]]:
    """Pixels that a predicted and a true segment have in common, where there are any; id 0 stands for none.

    Raises:
        ValueError: maps of different sizes, or a pixel of a segment that is not listed.
    """
    if pred.ids.shape != target.ids.shape:
        raise ValueError(f"maps must have one size, not {tuple(pred.ids.shape)} and {tuple(target.ids.shape)}")
    (rows, pred_ids), (columns, target_ids) = (_places(segments) for segments in (pred, target))
    counts = torch.bincount(rows * len(target_ids) + columns, minlength=len(pred_ids) * len(target_ids))
    table = counts.view(len(pred_ids), len(target_ids))
    places = table.nonzero().tolist()
    pairs = zip(places, table[table > 0].tolist(), strict=True)
    return Counter({(pred_ids[p], target_ids[t]): pixels for (p, t), pixels in pairs})


def _places(segments: Segments) -> tuple[Tensor, list[int]]:
    """For each pixel the place of its segment in the sorted ids, int64 (H * W,), and these ids."""
    ids = torch.tensor(sorted({0, *segments.categories}), device=segments.ids.device)
    pixels = segments.ids.reshape(-1).long()
    places = torch.searchsorted(ids, pixels).clamp(max=len(ids) - 1)
    if not (known := ids[places] == pixels).all():
        raise ValueError(f"segment {int(pixels[~known][0])} is in the map, but has no category")
    return places, ids.tolist()


class TrackOverlaps:
    """Intersections and areas of the tracks of one video, summed up while its frames stream in.

    Tracks have ids; one that a frame does not give is not there. Masks may overlap.
    """

    def __init__(self) -> None:
        self.common: Counter[tuple[int, int]] = Counter()
        self.pixels: tuple[Counter[int], Counter[int]] = (Counter(), Counter())  # of predicted and of true tracks
        self.frames: tuple[Counter[int], Counter[int]] = (Counter(), Counter())  # that show them

    def add(self, preds: Tensor, target: Tensor, pred_ids: Sequence[int], target_ids: Sequence[int]) -> Tensor:
        """Add a frame.

        Args:
            preds: bool (P, H, W), predicted masks.
            target: bool (G, H, W), true masks.
            pred_ids: the P tracks that the predicted masks belong to.
            target_ids: the G tracks that the true masks belong to.

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
        """Sum of intersections over sum of unions, float64 (P, G); 0 where the union is 0."""
        common = [[self.common[pred, true] for true in target_ids] for pred in pred_ids]
        said, true = (
            torch.tensor([pixels[id] for id in ids]).long()
            for pixels, ids in zip(self.pixels, (pred_ids, target_ids), strict=True)
        )
        both = torch.tensor(common, dtype=torch.float64).reshape(len(pred_ids), len(target_ids))
        return both / (said[:, None] + true - both).clamp(min=1)

    def mean_areas(self, ids: Sequence[int], *, true: bool = False) -> Tensor:
        """Mean pixels of predicted (or ``true``) tracks over the frames that show them, float64 (N,); 0: in none."""
        pixels, frames = self.pixels[true], self.frames[true]
        return torch.tensor([pixels[id] / max(frames[id], 1) for id in ids], dtype=torch.float64)


def intersections(preds: Tensor, target: Tensor) -> Tensor:
    """Pixels in common of each of P with each of G masks: bool (P, H, W), (G, H, W) -> int64 (P, G)."""
    if preds.dtype != torch.bool or target.dtype != torch.bool or preds.shape[1:] != target.shape[1:]:
        raise ValueError(
            f"masks must be boolean (P, H, W) and (G, H, W), not {preds.dtype} {tuple(preds.shape)} and "
            f"{target.dtype} {tuple(target.shape)}"
        )
    exact = torch.float32 if preds[:1].numel() < EXACT else torch.float64
    return (preds.flatten(1).to(exact) @ target.flatten(1).to(exact).T).long()
