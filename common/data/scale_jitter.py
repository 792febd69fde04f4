"""Large-scale jitter: every frame of a clip at a scale of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.data.clips import resized_image, resized_masks

PAD = 128  # grey of what lies outside the frame


@dataclass(frozen=True)
class ScaleJitter:
    """Mirror and turn a clip, then resize each frame by itself and cut the clip's size out of it.

    What UniVS trains with, after Ghiasi et al., "Simple Copy-Paste", CVPR 2021.

    Attributes:
        flip: probability of mirroring left and right, the same for all frames.
        turn: probability of a rotation, the same for all frames.
        degrees: largest rotation to each side.
        scale: smallest and largest size of a frame over that which just fits into the clip, drawn for every frame.
            Published code: 0.25 to 4; the paper of UniVS says 0.5 to 4.
        short_sides: where there are any, nothing is cut off: the short side of all frames is one of these.
        longest: with ``short_sides``, the most that the long side may have.
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
        """Change a clip.

        Args:
            frames: uint8 (T, 3, H, W).
            masks: bool (T, N, H, W).
            size: (h, w) of the result, unless ``short_sides`` are given.
            rng: where every number comes from.

        Returns:
            frames uint8 (T, 3, h, w), masks bool (T, N, h, w), and whether left and right were exchanged.
        """
        flipped = bool(rng.random() < self.flip)
        if flipped:
            frames, masks = frames.flip(3), masks.flip(3)
        if rng.random() < self.turn:
            frames, masks = _turned(frames, masks, math.radians(rng.uniform(-self.degrees, self.degrees)))
        if self.short_sides:
            whole = self._whole(frames.shape[2], frames.shape[3], int(rng.choice(self.short_sides)))
            return (
                _resized(frames, whole),
                resized_masks(masks.flatten(0, 1), whole).unflatten(0, masks.shape[:2]),
                flipped,
            )
        fit = min(size[0] / frames.shape[2], size[1] / frames.shape[3])
        parts = []
        for frame, mask in zip(frames, masks, strict=True):
            scale = fit * rng.uniform(*self.scale)
            new = (max(1, round(scale * frame.shape[1])), max(1, round(scale * frame.shape[2])))
            both = torch.cat([_resized(frame[None], new)[0], resized_masks(mask, new).to(torch.uint8)])
            parts.append(_cut(both, size, rng))
        cut = torch.stack(parts)
        return cut[:, :3], cut[:, 3:].bool(), flipped

    def _whole(self, height: int, width: int, short: int) -> tuple[int, int]:
        """Size of a frame whose short side is this, unless its long side is then too long."""
        scale = min(short / min(height, width), self.longest / max(height, width))
        return max(1, round(scale * height)), max(1, round(scale * width))


def _resized(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames uint8 (T, 3, H, W) at another size."""
    return torch.stack([resized_image(frame.permute(1, 2, 0), size) for frame in frames])


def _turned(frames: Tensor, masks: Tensor, angle: float) -> tuple[Tensor, Tensor]:
    """Frames uint8 (T, 3, H, W) and masks bool (T, N, H, W), turned by an angle about the centre."""
    ratio = frames.shape[3] / frames.shape[2]
    cos, sin = math.cos(angle), math.sin(angle)
    affine = torch.tensor([[[cos, -sin / ratio, 0.0], [sin * ratio, cos, 0.0]]])
    grid = F.affine_grid(affine, [1, 1, *frames.shape[2:]], align_corners=False).expand(len(frames), -1, -1, -1)
    pixels = F.grid_sample(frames.float() - PAD, grid, align_corners=False) + PAD
    turned = F.grid_sample(masks.float(), grid, mode="nearest", align_corners=False) > 0.5
    return pixels.add_(0.5).clamp_(0, 255).to(torch.uint8), turned


def _cut(both: Tensor, size: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """Pixels and masks of one frame, uint8 (3 + N, H, W): a random part of this size; what is beyond them is grey."""
    for axis, side in ((1, size[0]), (2, size[1])):
        room = both.shape[axis] - side
        both = both.narrow(axis, int(rng.integers(max(0, room) + 1)), min(side, both.shape[axis]))
    beyond = (0, size[1] - both.shape[2], 0, size[0] - both.shape[1])
    return torch.cat([F.pad(both[:3], beyond, value=PAD), F.pad(both[3:], beyond)])
