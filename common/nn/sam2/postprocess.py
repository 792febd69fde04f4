"""Options of SAM 2's predictors around the network: cleaning of masks, choice of candidates, prompted memories.

``PACKAGE`` has the defaults of the ``sam2`` package's video predictor, built with ``apply_postprocessing=True``; the
benchmarks of the papers are run with ``PLAIN``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from common.errors import InputError


@dataclass(frozen=True)
class PostProcessing:
    """Options of a predictor; the defaults change nothing.

    Attributes:
        hole_area: holes of at most this many pixels of the S/4 logits are filled, after decoding. A prompted frame is
            memorised with its holes filled, a tracked one as it was decoded. 0 = none. Package: 8.
        sprinkle_area: isolated regions of at most this many pixels of the S/4 logits are removed. 0 = none.
        dynamic_multimask: where one mask is decoded and it is not stable, take the candidate of largest predicted IoU
            instead; see ``SAM2.decode``. Package: true.
        binarize_clicks: memorise the masks of prompted frames thresholded instead of as probabilities. Package: true.
        clear_around_input: when a frame is prompted, forget the memories of the 7 tracked frames on either side.
        max_prompted_frames: number of prompted frames that a frame reads, the closest ones; at least 2; -1 = all.

    Raises:
        InputError: an area is negative, or ``max_prompted_frames`` is neither -1 nor at least 2.
    """

    hole_area: int = 0
    sprinkle_area: int = 0
    dynamic_multimask: bool = False
    binarize_clicks: bool = False
    clear_around_input: bool = False
    max_prompted_frames: int = -1

    def __post_init__(self) -> None:
        for name in ("hole_area", "sprinkle_area"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; give a number of pixels, 0 for none")
        if self.max_prompted_frames != -1 and self.max_prompted_frames < 2:
            raise InputError(f"max_prompted_frames is {self.max_prompted_frames}; give at least 2, or -1 for all")

    def clean(self, logits: Tensor) -> Tensor:
        """Fill holes and remove sprinkles of mask logits (..., h, w)."""
        return clean_masks(logits, self.hole_area, self.sprinkle_area)


PLAIN = PostProcessing()
"""No post-processing, as in the benchmarks."""

PACKAGE = PostProcessing(hole_area=8, dynamic_multimask=True, binarize_clicks=True)
"""The defaults of the ``sam2`` package's video predictor."""


def clean_masks(
    logits: Tensor, hole_area: float = 0, sprinkle_area: float = 0, threshold: float = 0.0, margin: float = 0.1
) -> Tensor:
    """Fill small holes and remove small isolated regions of masks.

    Both are 8-connected components of the given masks. Those of the background of at most ``hole_area`` pixels get the
    logit ``threshold`` + ``margin``, those of the foreground of at most ``sprinkle_area`` ``threshold`` - ``margin``.
    The ``sam2`` package does so on a GPU and skips it on a CPU.

    Args:
        logits: mask logits (..., h, w).
        hole_area: in pixels of the logits; 0 = none.
        sprinkle_area: in pixels of the logits; 0 = none.
        threshold: foreground is above it.
        margin: 0.1 in the package's video predictor, 10 in its image predictor.

    Returns:
        The same shape, dtype and device; ``logits`` itself where nothing is to do.
    """
    out = logits
    if hole_area > 0:
        out = torch.where(_small_regions(logits <= threshold, hole_area), threshold + margin, out)
    if sprinkle_area > 0:
        out = torch.where(_small_regions(logits > threshold, sprinkle_area), threshold - margin, out)
    return out.to(logits.dtype)


def _small_regions(masks: Tensor, area: float) -> Tensor:
    """Return the pixels bool (..., h, w) of the 8-connected components of masks that are at most ``area`` large."""
    planes = masks.flatten(0, -3).cpu().numpy().astype(np.uint8) if masks.ndim > 2 else masks.cpu().numpy()[None]
    small = np.zeros(planes.shape, dtype=bool)
    for row, plane in enumerate(planes.astype(np.uint8, copy=False)):
        _, labels, stats, _ = cv2.connectedComponentsWithStats(plane, connectivity=8)
        tiny = stats[:, cv2.CC_STAT_AREA] <= area
        tiny[0] = False  # label 0 is where the mask is not
        if tiny.any():
            small[row] = tiny[labels]
    return torch.from_numpy(small).view(masks.shape).to(masks.device)


def closest_prompted(frame: int, prompted: Iterable[int], limit: int = -1) -> list[int]:
    """Select the prompted frames that a frame reads: the last one before it, the first from it on, then the closest.

    Args:
        frame: index of the frame that reads.
        prompted: indices of prompted frames.
        limit: number to select; -1 = all.

    Returns:
        At most ``limit`` indices, in the order in which they are read: as given where all are taken.
    """
    frames = list(prompted)
    if limit == -1 or len(frames) <= limit:
        return frames
    before, after = [t for t in frames if t < frame], [t for t in frames if t >= frame]
    chosen = ([max(before)] if before else []) + ([min(after)] if after else [])
    rest = sorted((t for t in frames if t not in chosen), key=lambda t: abs(t - frame))
    return chosen + rest[: limit - len(chosen)]
