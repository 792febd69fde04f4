"""Frames and masks at the size that the network sees, and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def inner_size(size: Sequence[int], side: int | None) -> tuple[int, int]:
    """Height and width with the short side at most ``side`` (None = any), the long one in proportion, rounded down."""
    height, width = size
    short = min(height, width)
    if side is None or short <= side:
        return height, width
    return side * height // short, side * width // short


def shrink_frame(frame: Tensor, size: tuple[int, int]) -> Tensor:
    """A frame uint8 (H, W, 3) as float (1, 3, h, w), 0 to 1."""
    image = frame.permute(2, 0, 1)[None].float() / 255
    if image.shape[-2:] == size:
        return image
    return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)


def shrink_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask bool (H, W) as float (h, w) by the nearest pixel; one that would vanish keeps all that it touches."""
    planes = mask[None, None].float()
    if mask.shape != size:
        small = F.interpolate(planes, size, mode="nearest")
        planes = small if small.any() else F.adaptive_max_pool2d(planes, size)
    return planes[0, 0]


def pad(x: Tensor, multiple: int) -> Tensor:
    """(..., h, w) with zeros on all sides, the odd one at the end, until both sides are multiples."""
    height, width = (-side % multiple for side in x.shape[-2:])
    return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))


def unpad(x: Tensor, size: tuple[int, int], multiple: int) -> Tensor:
    """Undo ``pad`` of something that was ``size``."""
    top, left = ((-side % multiple) // 2 for side in size)
    return x[..., top : top + size[0], left : left + size[1]]
