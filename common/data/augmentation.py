"""Augmentation of training clips with one set of parameters for all frames and masks of a clip."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

TRIES = 5  # geometries tried to keep a target in the first frame, before the clip is left unchanged
KEEP = 0.3  # minimum fraction of a target's area in the first frame that must remain
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
BLUR_KERNEL = (0.0545, 0.2442, 0.4026, 0.2442, 0.0545)  # Gaussian, sigma 1 pixel: blends the edges of pasted targets


@dataclass(frozen=True)
class Augmentation:
    """Consistent augmentation of all frames and masks of a clip, with weak colour jitter per frame, as in SAM 2.

    ``keep_shape`` and ``pasted: targets`` reproduce the training of XMem and Cutie.

    Attributes:
        flip: probability of a horizontal flip.
        degrees: maximum rotation in either direction.
        shear: maximum shear in either direction, degrees.
        translate: maximum shift in either direction, as a fraction of the frame.
        crop: minimum and maximum side of the crop, as a fraction of the frame's side.
        keep_shape: crop with the aspect ratio of the clip; ``crop`` squared is then the crop's fraction of the frame's
            area, as far as it fits. Otherwise the frame is first resized to the clip's aspect ratio.
        stretch: maximum change of the aspect ratio, as a natural logarithm.
        brightness: maximum change of the clip's brightness, as a fraction.
        contrast: maximum change of the clip's contrast, as a fraction.
        saturation: maximum change of the clip's saturation, as a fraction.
        hue: maximum rotation of the hue, as a fraction of the colour circle.
        grey: probability of conversion to greyscale.
        frame_jitter: maximum change of brightness, contrast and saturation of each frame, drawn independently.
        paste: probability of pasting objects of another clip.
        pasted: ``occluder``: one unannotated object that does not hide a target in the first frame. ``targets``: all
            targets of the other clip, augmented independently, if the clip has fewer than the maximum; all targets
            visible in the first frame are then annotated, or a random subset if there are too many.
    """

    flip: float = 0.5
    degrees: float = 25.0
    shear: float = 20.0
    translate: float = 0.1
    crop: tuple[float, float] = (0.7, 1.0)
    keep_shape: bool = False
    stretch: float = 0.15
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.05
    grey: float = 0.05
    frame_jitter: float = 0.05
    paste: float = 0.1
    pasted: Literal["occluder", "targets"] = "occluder"

    def __call__(
        self,
        frames: Tensor,
        masks: Tensor,
        rng: np.random.Generator,
        paste: tuple[Tensor, ...] | None = None,
        absent: bool = False,
        size: tuple[int, int] | None = None,
        max_objects: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Augment a clip. Targets that leave the first frame are dropped; at least one remains.

        Args:
            frames: uint8 (T, 3, H, W).
            masks: bool (T, N, H, W).
            rng: source of randomness.
            paste: another clip of the same T to paste objects from; also of the same H, W, unless ``keep_shape`` or
                ``pasted: targets``.
            absent: targets may be absent from any frame; none is dropped, and max_objects of each remains over all
                frames.
            size: (h, w) of the result; default: (H, W).
            max_objects: maximum number of targets; default: unlimited.

        Returns:
            frames uint8 (T, 3, h, w) and masks bool (T, M, h, w), 1 <= M; without pasted targets M <= N.
        """
        size = size or (frames.shape[2], frames.shape[3])
        pixels, masks = self._move(frames.float(), masks, rng, absent, size)
        if paste is not None and self.pasted == "occluder":
            if self.keep_shape:
                paste = self._move(paste[0].float(), paste[1], rng, absent, size)
            pixels, masks = _paste_occluder(pixels, masks, paste, rng, absent)
        pixels = self._colour(pixels, rng)
        if paste is not None and self.pasted == "targets" and (max_objects is None or masks.shape[1] < max_objects):
            pixels, masks = _paste_targets(pixels, masks, *self(paste[0], paste[1], rng, size=size), rng, max_objects)
        return pixels.add_(0.5).clamp_(0, 255).to(torch.uint8), masks

    def _move(
        self, pixels: Tensor, masks: Tensor, rng: np.random.Generator, absent: bool, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Flip, rotate, shear, shift and crop in one resampling step."""
        required = masks if absent else masks[:1]  # frames in which targets must remain visible
        before = _areas(required)
        for _ in range(TRIES):
            affine = self._geometry(masks.shape[2:], rng, size)[None]
            grid = F.affine_grid(affine, [1, 1, *size], align_corners=False)
            after = _areas(_sample(required, grid))
            remains = (after >= KEEP * before) & ((after > 0) | absent)
            if remains.all() if absent else remains.any():
                return _sample(pixels, grid), _sample(masks[:, remains], grid)
        if masks.shape[2:] == size:
            return pixels, masks
        identity = F.affine_grid(torch.eye(2, 3)[None], [1, 1, *size], align_corners=False)
        return _sample(pixels, identity), _sample(masks, identity)

    def _geometry(self, before: torch.Size, rng: np.random.Generator, after: tuple[int, int]) -> Tensor:
        """Draw an affine map (2, 3) from output to input coordinates, both in -1..1."""
        ratio = before[1] / before[0]
        angle, shear_x, shear_y = np.radians(rng.uniform(-1, 1, 3) * (self.degrees, self.shear, self.shear))
        side, stretch = rng.uniform(*self.crop), 0.5 * rng.uniform(-1, 1) * self.stretch
        scale = np.diag([side * math.exp(stretch), side * math.exp(-stretch)])
        if self.keep_shape:
            shape = math.sqrt(after[1] / after[0] / ratio)
            scale = scale @ np.diag([shape, 1 / shape])
            scale /= max(1.0, scale.max())
        mirror = np.diag([-1.0 if rng.random() < self.flip else 1.0, 1.0])
        rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        shear = np.array([[1.0, math.tan(shear_x)], [math.tan(shear_y), 1.0]])
        square = np.diag([ratio, 1.0])  # rotate in pixel units, not in the normalised square of the sampling grid
        linear = np.linalg.inv(square) @ rotation @ shear @ square @ scale @ mirror
        room = 1.0 - np.abs(np.diag(scale))
        shift = rng.uniform(-1, 1, 2) * np.maximum(room, 0) + 2 * rng.uniform(-1, 1, 2) * self.translate
        return torch.from_numpy(np.concatenate([linear, shift[:, None]], 1)).float()

    def _colour(self, pixels: Tensor, rng: np.random.Generator) -> Tensor:
        """Apply colour jitter: one set of factors for the clip, and weak factors per frame."""
        limits = np.array([self.brightness, self.contrast, self.saturation])
        clip = 1 + rng.uniform(-1, 1, 3) * limits
        jitter = 1 + rng.uniform(-1, 1, (len(pixels), 3)) * self.frame_jitter
        hue_shift = rng.uniform(-1, 1) * self.hue
        if rng.random() < self.grey:
            clip[2] = 0.0
        return _recolour(pixels, clip * jitter, _hue_matrix(hue_shift))


def _areas(masks: Tensor) -> Tensor:
    """Return the areas (N,) of masks (T, N, H, W), summed over T."""
    return masks.flatten(2).sum((0, 2))


def _sample(x: Tensor, grid: Tensor) -> Tensor:
    """Resample pixels float (T, C, H, W) or masks bool (T, N, H, W); the outside is mid-grey, or background."""
    grid = grid.expand(len(x), -1, -1, -1)
    if x.dtype == torch.bool:
        return F.grid_sample(x.float(), grid, mode="nearest", align_corners=False) > 0.5
    return F.grid_sample(x - 128.0, grid, align_corners=False) + 128.0


def _hue_matrix(shift: float) -> NDArray[np.float64]:
    """Return the rotation (3, 3) of RGB about the grey axis by ``shift`` of a full circle."""
    cos, sin = math.cos(2 * math.pi * shift), math.sin(2 * math.pi * shift)
    cross = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    return (1 - cos) / 3 + cos * np.eye(3) + sin * cross


def _recolour(pixels: Tensor, factors: NDArray[np.float64], hue: NDArray[np.float64]) -> Tensor:
    """Apply hue, then (brightness, contrast, saturation) by factors (T, 3), to frames (T, 3, H, W) in one linear map.

    Contrast is relative to the frame's mean grey. Sums are written out or in float64: the rounding of a matrix product
    or a float32 mean may depend on the number of threads, and a clip must be identical in a worker and in the main
    process.
    """
    mean = pixels.double().mean((2, 3)).numpy() @ hue.T
    brightness, contrast, saturation = (factors[:, k, None, None] for k in range(3))
    mix = saturation * np.eye(3) + (1 - saturation) * np.array(LUMA)
    matrix = torch.from_numpy(contrast * mix @ (brightness * hue)).float()[..., None, None]
    offset = (1 - factors[:, 1]) * factors[:, 0] * (mean @ np.array(LUMA))
    out = torch.from_numpy(offset).float()[:, None, None, None] + matrix[:, :, 0] * pixels[:, 0:1]
    return out.add_(matrix[:, :, 1] * pixels[:, 1:2]).add_(matrix[:, :, 2] * pixels[:, 2:3])


def _paste_targets(
    pixels: Tensor,
    masks: Tensor,
    other: Tensor,
    added: Tensor,
    rng: np.random.Generator,
    max_objects: int | None,
) -> tuple[Tensor, Tensor]:
    """Paste the targets of another clip with soft edges; keep up to ``max_objects`` targets of the first frame."""
    cut = added.any(1, keepdim=True)
    alpha = _soften(cut.float())
    masks = torch.cat([masks & ~cut, added], 1)
    rows = np.flatnonzero(masks[0].flatten(1).any(1).numpy())
    rows = np.sort(rng.permutation(rows)[:max_objects])
    return torch.lerp(pixels, other.float(), alpha), masks[:, rows]


def _soften(cut: Tensor) -> Tensor:
    """Blur maps float (T, 1, H, W) by ``BLUR_KERNEL`` along both axes, with reflection at the borders."""
    for axis in (2, 3):
        padded = F.pad(cut, (0, 0, 2, 2) if axis == 2 else (2, 2, 0, 0), mode="reflect")
        cut = sum(
            (weight * padded.narrow(axis, offset, cut.shape[axis]) for offset, weight in enumerate(BLUR_KERNEL)),
            torch.zeros_like(cut),
        )
    return cut


def _paste_occluder(
    pixels: Tensor, masks: Tensor, other: tuple[Tensor, ...], rng: np.random.Generator, absent: bool
) -> tuple[Tensor, Tensor]:
    """Paste one object of another clip, unless it would hide most of a target in the first (``absent``: any) frame."""
    cut = other[1][:, int(rng.integers(other[1].shape[1]))][:, None]
    visible = masks & ~cut
    required = slice(None) if absent else slice(1)
    if (_areas(visible[required]) < KEEP * _areas(masks[required])).any():
        return pixels, masks
    return torch.where(cut, other[0].float(), pixels), visible
