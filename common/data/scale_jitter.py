"""Large-scale jitter with an independent scale for every frame of a clip."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.data.clips import resize_image, resize_masks

PAD = 128  # grey value of the padding


@dataclass(frozen=True)
class ScaleJitter:
    """Flip and rotate a clip, then resize each frame independently and crop it to the clip's size.

    The augmentation of UniVS, after Ghiasi et al., "Simple Copy-Paste", CVPR 2021.

    Attributes:
        flip: probability of a horizontal flip, shared by all frames.
        turn: probability of a rotation, shared by all frames.
        degrees: maximum rotation in either direction.
        scale: minimum and maximum scale of a frame relative to the size that fits into the clip, drawn per frame. The
            released code of UniVS uses 0.25 to 4, its paper states 0.5 to 4.
        short_sides: if given, frames are not cropped; the short side of all frames is drawn from these values.
        longest: with ``short_sides``, maximum length of the long side.
    """

    flip: float = 0.5
    turn: float = 0.5
    degrees: float = 15.0
    scale: tuple[float, float] = (0.25, 4.0)
    short_sides: tuple[int, ...] = ()
    longest: int = 1333

    def __call__(
        self, frames: Tensor, masks: Tensor, size: tuple[int, int], rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, bool]:
        """Augment a clip.

        Args:
            frames: uint8 (T, 3, H, W).
            masks: bool (T, N, H, W).
            size: (h, w) of the result, unless ``short_sides`` are given.
            rng: source of randomness.

        Returns:
            Frames uint8 (T, 3, h, w), masks bool (T, N, h, w), and whether the clip was flipped.
        """
        flipped = bool(rng.random() < self.flip)
        if flipped:
            frames, masks = frames.flip(3), masks.flip(3)
        if rng.random() < self.turn:
            frames, masks = _rotate(frames, masks, math.radians(rng.uniform(-self.degrees, self.degrees)))
        if self.short_sides:
            full = self._full_size(frames.shape[2], frames.shape[3], int(rng.choice(self.short_sides)))
            resized = resize_masks(masks.flatten(0, 1), full).view(*masks.shape[:2], *full)
            return _resize(frames, full), resized, flipped
        fit = min(size[0] / frames.shape[2], size[1] / frames.shape[3])
        parts = []
        for frame, mask in zip(frames, masks, strict=True):
            scale = fit * rng.uniform(*self.scale)
            new = (max(1, round(scale * frame.shape[1])), max(1, round(scale * frame.shape[2])))
            both = torch.cat([_resize(frame[None], new)[0], resize_masks(mask, new).to(torch.uint8)])
            parts.append(_random_crop(both, size, rng))
        cropped = torch.stack(parts)
        return cropped[:, :3], cropped[:, 3:].bool(), flipped

    def _full_size(self, height: int, width: int, short: int) -> tuple[int, int]:
        """Return the size of a frame with this short side, or less if the long side would exceed its limit."""
        scale = min(short / min(height, width), self.longest / max(height, width))
        return max(1, round(scale * height)), max(1, round(scale * width))


def _resize(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize frames uint8 (T, 3, H, W)."""
    return torch.stack([resize_image(frame.permute(1, 2, 0), size) for frame in frames])


def _rotate(frames: Tensor, masks: Tensor, angle: float) -> tuple[Tensor, Tensor]:
    """Rotate frames uint8 (T, 3, H, W) and masks bool (T, N, H, W) about the centre; ``angle`` in radians."""
    ratio = frames.shape[3] / frames.shape[2]
    cos, sin = math.cos(angle), math.sin(angle)
    affine = torch.tensor([[[cos, -sin / ratio, 0.0], [sin * ratio, cos, 0.0]]])
    grid = F.affine_grid(affine, [1, 1, *frames.shape[2:]], align_corners=False).expand(len(frames), -1, -1, -1)
    pixels = F.grid_sample(frames.float() - PAD, grid, align_corners=False) + PAD
    rotated = F.grid_sample(masks.float(), grid, mode="nearest", align_corners=False) > 0.5
    return pixels.add_(0.5).clamp_(0, 255).to(torch.uint8), rotated


def _random_crop(both: Tensor, size: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """Crop pixels and masks of one frame, uint8 (3 + N, H, W), at random; pad them with grey if they are smaller."""
    for axis, side in ((1, size[0]), (2, size[1])):
        room = both.shape[axis] - side
        both = both.narrow(axis, int(rng.integers(max(0, room) + 1)), min(side, both.shape[axis]))
    padding = (0, size[1] - both.shape[2], 0, size[0] - both.shape[1])
    return torch.cat([F.pad(both[:3], padding, value=PAD), F.pad(both[3:], padding)])
