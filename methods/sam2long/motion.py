"""Boxes of masks, and the Kalman filter of a box by which SAMURAI predicts where a target is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from common.video.masks import boxes_from_masks

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels: the first and last column and row of a mask. An empty mask has (0, 0, 0, 0)."""

Array = npt.NDArray[np.float64]

POSITION_WEIGHT, VELOCITY_WEIGHT = 1 / 20, 1 / 160  # standard deviations in heights of the box, as in SORT and DeepSORT
ASPECT_PROCESS, ASPECT_MEASURED, ASPECT_VELOCITY = 1e-2, 1e-1, 1e-5  # of the aspect ratio, which has no unit


def mask_boxes(masks: Tensor) -> list[Box]:
    """Return the box of each mask.

    Args:
        masks: bool (N, H, W).
    """
    return [(x0, y0, x1, y1) for x0, y0, x1, y1 in boxes_from_masks(masks, inclusive=True).tolist()]


def box_iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the intersection over union of two boxes (x0, y0, x1, y1); 1 where both have no area."""
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    union = sum(areas) - width * height
    return width * height / union if union else 1.0


class BoxFilter:
    """Kalman filter of one box: its centre, aspect ratio (width / height) and height, and their velocities per frame.

    Noise is proportional to the height of the box, as in DeepSORT (arXiv 1703.07402).

    Args:
        box: on the first frame.

    Attributes:
        mean: float64 (8,).
        covariance: float64 (8, 8).
    """

    def __init__(self, box: Box) -> None:
        measured = _measurement(box)
        height = measured[3]
        position, velocity = 2 * POSITION_WEIGHT * height, 10 * VELOCITY_WEIGHT * height
        deviations = [position, position, ASPECT_PROCESS, position, velocity, velocity, ASPECT_VELOCITY, velocity]
        self.mean: Array = np.concatenate([measured, np.zeros(4)])
        self.covariance: Array = np.diag(np.square(deviations))

    @property
    def box(self) -> Box:
        """The box of the present state."""
        x, y, aspect, height = (float(value) for value in self.mean[:4])
        return x - aspect * height / 2, y - height / 2, x + aspect * height / 2, y + height / 2

    def predict(self) -> None:
        """Move to the next frame."""
        height = self.mean[3]
        position, velocity = POSITION_WEIGHT * height, VELOCITY_WEIGHT * height
        deviations = [position, position, ASPECT_PROCESS, position, velocity, velocity, ASPECT_VELOCITY, velocity]
        step = np.eye(8) + np.eye(8, k=4)
        self.mean = step @ self.mean
        self.covariance = step @ self.covariance @ step.T + np.diag(np.square(deviations))

    def update(self, box: Box) -> None:
        """Correct the prediction by the box that was found."""
        position = POSITION_WEIGHT * self.mean[3]
        noise = np.diag(np.square([position, position, ASPECT_MEASURED, position]))
        innovation = self.covariance[:4, :4] + noise
        gain = np.linalg.solve(innovation, self.covariance[:4]).T
        self.mean = self.mean + gain @ (_measurement(box) - self.mean[:4])
        self.covariance = self.covariance - gain @ innovation @ gain.T


def _measurement(box: Box) -> Array:
    """Return centre, aspect ratio and height of a box float64 (4,); a height of 0 counts as 1."""
    x0, y0, x1, y1 = box
    height = (y1 - y0) or 1.0
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / height, height])
