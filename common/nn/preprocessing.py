"""Frames and masks at the size that a network takes, and its answers back at the size of the video.

Legend: H W size of the video, h w size inside the network, N masks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from common.nn.transfer import to_device

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's RGB channels, images in [0, 1]."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of ImageNet's RGB channels, images in [0, 1]."""


def normalise(image: Tensor) -> Tensor:
    """Subtract ImageNet's mean and divide by its standard deviation.

    Args:
        image: float RGB (..., 3, H, W) in [0, 1].

    Returns:
        The same shape and dtype.
    """
    constants = torch.tensor([IMAGENET_MEAN, IMAGENET_STD], dtype=image.dtype)
    mean, std = to_device(constants, image.device).view(2, 3, 1, 1)
    out: Tensor = (image - mean) / std
    return out


def resize_frame(frame: Tensor, size: tuple[int, int]) -> Tensor:
    """Convert a frame to a float batch of one, resized by an antialiased bilinear filter.

    Args:
        frame: uint8 RGB (H, W, 3).
        size: (h, w); a frame that has this size already is not filtered.

    Returns:
        float32 (1, 3, h, w) in [0, 1].
    """
    image = frame.permute(2, 0, 1)[None].float() / 255
    if image.shape[-2:] == size:
        return image
    return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a mask by nearest neighbour without losing a small target.

    A target that falls between the sampled pixels would vanish; then every cell that it touches is set instead.

    Args:
        mask: bool (H, W).
        size: (h, w).

    Returns:
        bool (h, w), empty only where ``mask`` is.
    """
    planes = mask[None, None].float()
    nearest = F.interpolate(planes, size, mode="nearest")
    return (nearest if nearest.any() else F.adaptive_max_pool2d(planes, size))[0, 0] > 0


def resize_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize logits or probabilities (N, C, h, w) bilinearly to (N, C, H, W), pixel centres aligned.

    Args:
        logits: float (N, C, h, w).
        size: (H, W).
    """
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad with zeros on all four sides until height and width are multiples of a number.

    Where the padding of an axis is odd, the end gets the extra pixel, as in Cutie.

    Args:
        x: (..., h, w).
        multiple: the stride of the network's deepest map, in pixels.
    """
    height, width = (-side % multiple for side in x.shape[-2:])
    return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))


def crop_padding(x: Tensor, size: Sequence[int], multiple: int) -> Tensor:
    """Undo ``pad_to_multiple``.

    Args:
        x: the padded (..., h', w').
        size: (h, w) before the padding.
        multiple: as given to ``pad_to_multiple``.

    Returns:
        (..., h, w).
    """
    top, left = ((-side % multiple) // 2 for side in size)
    return x[..., top : top + size[0], left : left + size[1]]
