"""Augmentation of training clips: one draw of parameters for all frames and masks of a clip."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

TRIES = 5  # geometries tried before one that keeps a target in the first frame is given up for none
KEEP = 0.3  # of a target's area in the first frame, the least that must stay
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
SOFT = (0.0545, 0.2442, 0.4026, 0.2442, 0.0545)  # a Gaussian of one pixel, by which the edge of a pasted target fades


@dataclass(frozen=True)
class Augmentation:
    """The same change for every frame of a clip and its masks, and a weak colour change per frame, as SAM 2 trains.

    ``keep_shape`` and ``pasted: targets`` are how XMem and Cutie train.

    Attributes:
        flip: probability of mirroring left and right.
        degrees: largest rotation to each side.
        shear: largest shear to each side, degrees.
        translate: largest shift to each side, as a fraction of the frame.
        crop: smallest and largest side of the part that is cut out and enlarged, as a fraction of the frame's.
        keep_shape: what is cut out of the frame has the clip's shape; ``crop`` squared is then its share of the frame's
            area, as far as that fits. Otherwise the whole frame is squeezed into the clip's shape before.
        stretch: largest change of the aspect ratio, as a natural logarithm.
        brightness: largest change of brightness of the clip, as a fraction.
        contrast: the same for contrast.
        saturation: the same for saturation.
        hue: largest turn of the hue, as a fraction of the colour circle.
        grey: probability of losing colour.
        frame_jitter: largest change of brightness, contrast and saturation of each frame by itself.
        paste: probability of something of another clip being pasted over this one.
        pasted: ``occluder``: one object, not annotated, that hides no target in the first frame. ``targets``: all of
            the other clip's, changed by themselves, over a clip that has fewer than it may; all that then show in the
            first frame are targets, or some of them where they are too many.
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
        most: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Change a clip. A target that leaves the first frame by it is dropped; one at least stays.

        Args:
            frames: uint8 (T, 3, H, W).
            masks: bool (T, N, H, W).
            rng: where every number comes from.
            paste: another clip of the same T, of which one object or all are pasted; of the same H, W too, unless its
                shape is kept or its targets are pasted.
            absent: a target may be absent from any frame, and none is dropped: most of each stays over all frames.
            size: (h, w) of the result; default: H, W.
            most: targets that the clip may have; default: any number.

        Returns:
            frames uint8 (T, 3, h, w) and masks bool (T, M, h, w), 1 <= M; without pasted targets M <= N.
        """
        size = size or (frames.shape[2], frames.shape[3])
        pixels, masks = self._move(frames.float(), masks, rng, absent, size)
        if paste is not None and self.pasted == "occluder":
            if self.keep_shape:
                paste = self._move(paste[0].float(), paste[1], rng, absent, size)
            pixels, masks = _paste(pixels, masks, paste, rng, absent)
        pixels = self._colour(pixels, rng)
        if paste is not None and self.pasted == "targets" and (most is None or masks.shape[1] < most):
            pixels, masks = _joined(pixels, masks, *self(paste[0], paste[1], rng, size=size), rng, most)
        return pixels.add_(0.5).clamp_(0, 255).to(torch.uint8), masks

    def _move(
        self, pixels: Tensor, masks: Tensor, rng: np.random.Generator, absent: bool, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Flip, rotate, shear, shift and crop, in one resampling."""
        shown = masks if absent else masks[:1]
        before = _areas(shown)
        for _ in range(TRIES):
            affine = self._geometry(masks.shape[2:], rng, size)[None]
            grid = F.affine_grid(affine, [1, 1, *size], align_corners=False)
            after = _areas(_sample(shown, grid))
            stays = (after >= KEEP * before) & ((after > 0) | absent)
            if stays.all() if absent else stays.any():
                return _sample(pixels, grid), _sample(masks[:, stays], grid)
        if masks.shape[2:] == size:
            return pixels, masks
        whole = F.affine_grid(torch.eye(2, 3)[None], [1, 1, *size], align_corners=False)
        return _sample(pixels, whole), _sample(masks, whole)

    def _geometry(self, before: torch.Size, rng: np.random.Generator, after: tuple[int, int]) -> Tensor:
        """Affine map (2, 3) from the new frame to the old one, both spanning -1..1."""
        ratio = before[1] / before[0]
        angle, shear_x, shear_y = np.radians(rng.uniform(-1, 1, 3) * (self.degrees, self.shear, self.shear))
        side, stretch = rng.uniform(*self.crop), 0.5 * rng.uniform(-1, 1) * self.stretch
        scale = np.diag([side * math.exp(stretch), side * math.exp(-stretch)])
        if self.keep_shape:
            shape = math.sqrt(after[1] / after[0] / ratio)
            scale = scale @ np.diag([shape, 1 / shape])
            scale /= max(1.0, scale.max())
        mirror = np.diag([-1.0 if rng.random() < self.flip else 1.0, 1.0])
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        slant = np.array([[1.0, math.tan(shear_x)], [math.tan(shear_y), 1.0]])
        square = np.diag([ratio, 1.0])  # rotate in pixels, not in the stretched square of the sampling grid
        linear = np.linalg.inv(square) @ turn @ slant @ square @ scale @ mirror
        room = 1.0 - np.abs(np.diag(scale))
        shift = rng.uniform(-1, 1, 2) * np.maximum(room, 0) + 2 * rng.uniform(-1, 1, 2) * self.translate
        return torch.from_numpy(np.concatenate([linear, shift[:, None]], 1)).float()

    def _colour(self, pixels: Tensor, rng: np.random.Generator) -> Tensor:
        """Colour of the clip, then a little of every frame by itself."""
        limits = np.array([self.brightness, self.contrast, self.saturation])
        clip = 1 + rng.uniform(-1, 1, 3) * limits
        jitter = 1 + rng.uniform(-1, 1, (len(pixels), 3)) * self.frame_jitter
        turn = rng.uniform(-1, 1) * self.hue
        if rng.random() < self.grey:
            clip[2] = 0.0
        return _recolour(pixels, clip * jitter, _hue_matrix(turn))


def _areas(masks: Tensor) -> Tensor:
    """Pixels (N,) of masks (T, N, H, W), over all T."""
    return masks.flatten(2).sum((0, 2))


def _sample(x: Tensor, grid: Tensor) -> Tensor:
    """Resample pixels float (T, C, H, W) or masks bool (T, N, H, W); what lies outside is mid-grey, or no target."""
    grid = grid.expand(len(x), -1, -1, -1)
    if x.dtype == torch.bool:
        return F.grid_sample(x.float(), grid, mode="nearest", align_corners=False) > 0.5
    return F.grid_sample(x - 128.0, grid, align_corners=False) + 128.0


def _hue_matrix(turn: float) -> np.ndarray:
    """Rotation (3, 3) of RGB about the grey axis by ``turn`` of a full circle."""
    cos, sin = math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn)
    cross = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    return (1 - cos) / 3 + cos * np.eye(3) + sin * cross


def _recolour(pixels: Tensor, factors: np.ndarray, hue: np.ndarray) -> Tensor:
    """Hue, then (brightness, contrast, saturation) by factors (T, 3), of frames (T, 3, H, W), in one linear map.

    Contrast turns about the frame's mean grey. Sums are written out or in float64: a matrix product or a float32 mean
    may round by the number of threads, and a clip must be the same in a worker and in the main process.
    """
    mean = pixels.double().mean((2, 3)).numpy() @ hue.T
    brightness, contrast, saturation = (factors[:, k, None, None] for k in range(3))
    mix = saturation * np.eye(3) + (1 - saturation) * np.array(LUMA)
    matrix = torch.from_numpy(contrast * mix @ (brightness * hue)).float()[..., None, None]
    offset = (1 - factors[:, 1]) * factors[:, 0] * (mean @ np.array(LUMA))
    out = torch.from_numpy(offset).float()[:, None, None, None] + matrix[:, :, 0] * pixels[:, 0:1]
    return out.add_(matrix[:, :, 1] * pixels[:, 1:2]).add_(matrix[:, :, 2] * pixels[:, 2:3])


def _joined(
    pixels: Tensor,
    masks: Tensor,
    other: Tensor,
    added: Tensor,
    rng: np.random.Generator,
    most: int | None,
) -> tuple[Tensor, Tensor]:
    """The targets of another clip in front, with soft edges; of all that show in the first frame at most so many."""
    cut = added.any(1, keepdim=True)
    soft = _softened(cut.float())
    masks = torch.cat([masks & ~cut, added], 1)
    rows = np.flatnonzero(masks[0].flatten(1).any(1).numpy())
    rows = np.sort(rng.permutation(rows)[:most])
    return torch.lerp(pixels, other.float(), soft), masks[:, rows]


def _softened(cut: Tensor) -> Tensor:
    """Maps float (T, 1, H, W) blurred by ``SOFT`` along both sides, mirrored at the edges."""
    for axis in (2, 3):
        padded = F.pad(cut, (0, 0, 2, 2) if axis == 2 else (2, 2, 0, 0), mode="reflect")
        cut = sum(
            (weight * padded.narrow(axis, place, cut.shape[axis]) for place, weight in enumerate(SOFT)),
            torch.zeros_like(cut),
        )
    return cut


def _paste(
    pixels: Tensor, masks: Tensor, other: tuple[Tensor, ...], rng: np.random.Generator, absent: bool
) -> tuple[Tensor, Tensor]:
    """Paste one object of another clip in front, unless it would hide most of a target in the first frame (or all)."""
    cut = other[1][:, int(rng.integers(other[1].shape[1]))][:, None]
    left = masks & ~cut
    shown = slice(None) if absent else slice(1)
    if (_areas(left[shown]) < KEEP * _areas(masks[shown])).any():
        return pixels, masks
    return torch.where(cut, other[0].float(), pixels), left
