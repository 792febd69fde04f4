"""Masks of everything on an image, from a grid of clicks, as ``SAM2AutomaticMaskGenerator`` of the ``sam2`` package."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import InputError
from common.nn.sam2.types import LOGIT_LIMIT
from common.video.masks import RLE, boxes_from_masks, rle_decode, rle_encode
from methods.sam2long.predictors.build import load_network
from methods.sam2long.predictors.image import ImagePredictor

OUTPUT_MODES = ("binary_mask", "uncompressed_rle", "coco_rle")
EDGE = 20.0  # pixels: a mask that ends closer than this to the edge of a crop is cut off by it

Box = tuple[int, int, int, int]
_TENSORS = ("ious", "stability", "points", "boxes", "crops")


@dataclass
class Masks:
    """N masks of an image.

    Attributes:
        ious: predicted IoU (N,).
        stability: stability score (N,).
        points: the click of each, float (N, 2) in pixels.
        boxes: float (N, 4), first and last column and row: x0, y0, x1, y1.
        crops: the crop in which each was found, float (N, 4).
        rles: N compressed RLE.
    """

    ious: Tensor
    stability: Tensor
    points: Tensor
    boxes: Tensor
    crops: Tensor
    rles: list[RLE]

    def select(self, rows: Tensor) -> Masks:
        """Select masks by int64 (n,)."""
        values: dict[str, Any] = {name: getattr(self, name)[rows] for name in _TENSORS}
        return Masks(**values, rles=[self.rles[row] for row in rows.tolist()])

    @classmethod
    def cat(cls, parts: Sequence[Masks]) -> Masks:
        """Concatenate masks of one image."""
        values: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in _TENSORS}
        return cls(**values, rles=[rle for part in parts for rle in part.rles])


class AutomaticMaskGenerator:
    """Masks of everything on an image.

    A click on every point of a grid gives candidate masks. Those of low predicted IoU or of low stability (the IoU of
    the mask at a higher and a lower threshold) are dropped, and so are duplicates, by non-maximum suppression of boxes.
    With crops the same is done on parts of the image, for small objects.

    Args:
        model: a ``SAM2`` network or a module with one, e.g. ``SAM2Long``.
        points_per_side: of the grid; None = ``point_grids``.
        points_per_batch: clicks decoded at once.
        pred_iou_thresh: smallest predicted IoU, not included; 0 = all.
        stability_score_thresh: smallest stability score; 0 = all.
        stability_score_offset: by which the threshold is raised and lowered.
        mask_threshold: logit above which a pixel is foreground.
        box_nms_thresh: box IoU of duplicates within a crop.
        crop_n_layers: layer i has 4^i crops; 0 = the whole image only.
        crop_nms_thresh: box IoU of duplicates of different crops, of which that of the smaller crop is kept.
        crop_overlap_ratio: overlap of the first layer's crops, as a share of the image's shorter side.
        crop_n_points_downscale_factor: layer i has ``points_per_side`` divided by the i-th power of this.
        point_grids: a grid (n, 2) in [0, 1] for each layer, in place of ``points_per_side``.
        min_mask_region_area: holes and isolated regions up to this area of the S/4 masks are removed; 0 = none.
        output_mode: ``binary_mask``, ``uncompressed_rle`` or ``coco_rle``.
        use_m2m: decode every candidate once more from its click and its own mask.
        multimask_output: three candidates for a click instead of one.
        kwargs: ignored, as in the package.

    Raises:
        InputError: not exactly one of ``points_per_side`` and ``point_grids``, fewer grids than layers, a grid without
            points, or an unknown output mode.
    """

    def __init__(
        self,
        model: nn.Module,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.8,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        mask_threshold: float = 0.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: list[np.ndarray] | None = None,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
        use_m2m: bool = False,
        multimask_output: bool = True,
        **kwargs: Any,
    ) -> None:
        if (points_per_side is None) == (point_grids is None):
            raise InputError("give exactly one of points_per_side and point_grids")
        if output_mode not in OUTPUT_MODES:
            raise InputError(f"output_mode {output_mode!r} is unknown; choose one of {', '.join(OUTPUT_MODES)}")
        if points_per_side is not None:
            factor = crop_n_points_downscale_factor
            point_grids = [point_grid(int(points_per_side / factor**layer)) for layer in range(crop_n_layers + 1)]
        assert point_grids is not None
        if len(point_grids) <= crop_n_layers:
            raise InputError(f"point_grids has {len(point_grids)} grids for {crop_n_layers + 1} layers")
        if not all(len(grid) for grid in point_grids):
            raise InputError("a layer has no points; give more points_per_side or a smaller downscale factor")
        self.point_grids = point_grids
        self.predictor = ImagePredictor(
            model, max_hole_area=min_mask_region_area, max_sprinkle_area=min_mask_region_area
        )
        self.points_per_batch = points_per_batch
        self.pred_iou_thresh = pred_iou_thresh
        self.stability_score_thresh = stability_score_thresh
        self.stability_score_offset = stability_score_offset
        self.mask_threshold = mask_threshold
        self.box_nms_thresh = box_nms_thresh
        self.crop_n_layers = crop_n_layers
        self.crop_nms_thresh = crop_nms_thresh
        self.crop_overlap_ratio = crop_overlap_ratio
        self.output_mode = output_mode
        self.use_m2m = use_m2m
        self.multimask_output = multimask_output

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> AutomaticMaskGenerator:
        """Make a generator from weights on this machine.

        Args:
            model_id: see ``load_network``.
            kwargs: of ``load_network`` and of the constructor.
        """
        return cls(load_network(model_id, **kwargs), **kwargs)

    def generate(self, image: np.ndarray) -> list[dict[str, Any]]:
        """Find the masks of an image.

        Args:
            image: RGB uint8 (H, W, 3).

        Returns:
            A record for each mask: ``segmentation`` (bool (H, W), or RLE), ``area`` in pixels, ``bbox`` (x0, y0, and
            last minus first column and row), ``predicted_iou``, ``point_coords`` (the click, [[x, y]]),
            ``stability_score`` and ``crop_box`` (x0, y0, width, height).
        """
        found = self.find(image)
        return [self._record(found, row) for row in range(len(found.rles))]

    @torch.no_grad()
    def find(self, image: np.ndarray) -> Masks:
        """Find the masks of an image, as ``generate``, without making records.

        Args:
            image: RGB uint8 (H, W, 3).

        Returns:
            The best first, by predicted IoU; with crops by the size of the crop.
        """
        height, width = image.shape[:2]
        crops = crop_boxes((height, width), self.crop_n_layers, self.crop_overlap_ratio)
        found = Masks.cat([self._crop(image, crop, layer) for crop, layer in crops])
        if len(crops) > 1:
            sides = found.crops[:, 2:] - found.crops[:, :2]
            found = found.select(suppress(found.boxes, 1 / sides.prod(1), self.crop_nms_thresh))
        return found

    def _crop(self, image: np.ndarray, crop: Box, layer: int) -> Masks:
        """Find the masks of a crop; everything is in pixels of the whole image."""
        x0, y0, x1, y1 = crop
        size = (y1 - y0, x1 - x0)
        self.predictor.set_image(image[y0:y1, x0:x1])
        points = torch.as_tensor(self.point_grids[layer] * np.array([[size[1], size[0]]])).float()
        frame = (image.shape[0], image.shape[1])
        found = Masks.cat([self._batch(batch, crop, frame) for batch in points.split(self.points_per_batch)])
        self.predictor.reset_predictor()
        return found.select(suppress(found.boxes, found.ious, self.box_nms_thresh))

    def _batch(self, points: Tensor, crop: Box, frame: tuple[int, int]) -> Masks:
        """Find the masks of clicks (n, 2) in pixels of the crop."""
        x0, y0, x1, y1 = crop
        size = (y1 - y0, x1 - x0)
        logits, ious = self._decode(points, None, size, self.multimask_output)
        points = points.repeat_interleave(logits.shape[1], 0)
        logits, ious = logits.flatten(0, 1)[:, None], ious.flatten()
        if self.use_m2m:
            logits = logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
            parts = zip(points.split(self.points_per_batch), logits.split(self.points_per_batch), strict=True)
            again = [self._decode(clicks, masks, size, False) for clicks, masks in parts]
            logits, ious = torch.cat([part[0] for part in again]), torch.cat([part[1] for part in again]).flatten()
        ious = ious.cpu()
        keep = _above(ious > self.pred_iou_thresh, self.pred_iou_thresh)
        points, ious = points[keep], ious[keep]
        masks = self.predictor.upsample(logits[keep.to(logits.device)], size)[:, 0]
        stability = stability_score(masks, self.mask_threshold, self.stability_score_offset).cpu()
        keep = _above(stability >= self.stability_score_thresh, self.stability_score_thresh)
        points, ious, stability = points[keep], ious[keep], stability[keep]
        binary = masks[keep.to(masks.device)] > self.mask_threshold
        boxes = boxes_from_masks(binary, inclusive=True).cpu() + torch.tensor([x0, y0, x0, y0])
        keep = ~_cut_off(boxes, crop, frame)
        binary = F.pad(binary[keep.to(binary.device)], (x0, frame[1] - x1, y0, frame[0] - y1))
        crops = torch.tensor([crop], dtype=torch.float32).expand(int(keep.sum()), 4)
        offset = torch.tensor([x0, y0])
        return Masks(ious[keep], stability[keep], points[keep] + offset, boxes[keep], crops, rle_encode(binary))

    def _decode(
        self, points: Tensor, masks: Tensor | None, size: tuple[int, int], multimask: bool
    ) -> tuple[Tensor, Tensor]:
        """Decode one positive click (n, 2) each, with a mask (n, 1, S/4, S/4) or without."""
        coords = points / torch.tensor([size[1], size[0]]) * self.predictor.model.image_size
        labels = torch.ones(len(points), 1, dtype=torch.long, device=self.predictor.device)
        return self.predictor.decode(coords[:, None].to(self.predictor.device), labels, masks, multimask)

    def _record(self, found: Masks, row: int) -> dict[str, Any]:
        mask = rle_decode([found.rles[row]])[0]
        segmentation: Any = found.rles[row]
        if self.output_mode == "binary_mask":
            segmentation = mask.numpy()
        elif self.output_mode == "uncompressed_rle":
            segmentation = uncompressed_rle(mask)
        return {
            "segmentation": segmentation,
            "area": int(mask.sum()),
            "bbox": _sides(found.boxes[row]),
            "predicted_iou": float(found.ious[row]),
            "point_coords": [found.points[row].tolist()],
            "stability_score": float(found.stability[row]),
            "crop_box": _sides(found.crops[row]),
        }


def _above(passed: Tensor, threshold: float) -> Tensor:
    """Return which scores pass a threshold, where 0 lets everything pass."""
    return passed if threshold > 0 else torch.ones_like(passed)


def _sides(box: Tensor) -> list[float]:
    """Return (x0, y0, x1 - x0, y1 - y0)."""
    return torch.cat([box[:2], box[2:] - box[:2]]).tolist()


def point_grid(side: int) -> np.ndarray:
    """Return the centres of side x side cells of the unit square, float64 (side², 2), row by row.

    Args:
        side: points per side.
    """
    half = 0.5 / max(side, 1)
    centres = np.linspace(half, 1 - half, side)
    x, y = np.meshgrid(centres, centres)
    return np.stack([x.ravel(), y.ravel()], -1)


def crop_boxes(size: tuple[int, int], layers: int, overlap_ratio: float) -> list[tuple[Box, int]]:
    """Return the crops of all layers with their layer: the whole image, then 2 x 2, 4 x 4 ... overlapping crops.

    Args:
        size: (H, W) of the image.
        layers: number of layers beyond the whole image.
        overlap_ratio: of the first layer, as a share of the shorter side; that of layer i is smaller by 2^(i-1).
    """
    height, width = size
    crops: list[tuple[Box, int]] = [((0, 0, width, height), 0)]
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(size) * 2 / count)
        long, tall = (math.ceil((overlap * (count - 1) + side) / count) for side in (width, height))
        corners = product(((long - overlap) * i for i in range(count)), ((tall - overlap) * i for i in range(count)))
        crops += [((x, y, min(x + long, width), min(y + tall, height)), layer) for x, y in corners]
    return crops


def stability_score(logits: Tensor, threshold: float, offset: float) -> Tensor:
    """Return the IoU (N,) of masks at a higher and a lower threshold; NaN for a mask that is empty at both.

    Args:
        logits: (N, H, W).
        threshold: of the masks.
        offset: of the two thresholds.
    """
    high, low = ((logits > threshold + shift).flatten(1).sum(1) for shift in (offset, -offset))
    return high / low


def suppress(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Return the boxes that non-maximum suppression keeps, int64, of the largest score first.

    Args:
        boxes: float (N, 4), x0, y0, x1, y1.
        scores: (N,).
        threshold: IoU above which the box of lower score is dropped.
    """
    order = scores.argsort(descending=True, stable=True)
    sorted_boxes = boxes[order]
    areas = (sorted_boxes[:, 2:] - sorted_boxes[:, :2]).prod(1)
    alive = torch.ones(len(order), dtype=torch.bool)
    for row in range(len(order)):
        if alive[row]:
            box, rest = sorted_boxes[row], sorted_boxes[row + 1 :]
            sides = (torch.minimum(box[2:], rest[:, 2:]) - torch.maximum(box[:2], rest[:, :2])).clamp(min=0)
            inside = sides.prod(1)
            alive[row + 1 :] &= ~(inside / (areas[row] + areas[row + 1 :] - inside) > threshold)
    return order[alive]


def uncompressed_rle(mask: Tensor) -> RLE:
    """Return the run lengths of a mask by columns, starting with background.

    Args:
        mask: bool (H, W).
    """
    pixels = mask.t().flatten().to(torch.int8)
    changes = (pixels[1:] != pixels[:-1]).nonzero()[:, 0] + 1
    ends = torch.cat([torch.zeros(1, dtype=torch.long), changes, torch.tensor([len(pixels)])])
    counts = ([0] if pixels[0] else []) + ends.diff().tolist()
    return {"size": list(mask.shape), "counts": counts}


def _cut_off(boxes: Tensor, crop: Box, frame: tuple[int, int]) -> Tensor:
    """Return which boxes (N, 4) end near an edge of the crop that is no edge of the image."""
    edges, borders = torch.tensor(crop), torch.tensor([0, 0, frame[1], frame[0]])
    near_crop, near_border = ((boxes - line).abs() <= EDGE for line in (edges, borders))
    return (near_crop & ~near_border).any(1)
