"""Frames and masks at the size that the base tracker sees."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from common.nn.preprocessing import normalise

LONG_EDGE = 1040  # 1.3 x 800 pixels, the released evaluation


def inner_size(size: tuple[int, int], aligned: bool, long_edge: int | None, scale: float = 1.0) -> tuple[int, int]:
    """Sides (h, w) that the encoder takes, nearest to the frame's own with the long edge at most ``long_edge``.

    Args:
        size: (H, W) of the video.
        aligned: multiples of 16 plus 1, else multiples of 16.
        long_edge: in pixels, None = no limit.
        scale: after that, 1.3 for YouTube-VOS.
    """
    shrink = 1.0 if long_edge is None else min(1.0, long_edge / max(size))
    extra = int(aligned)
    height, width = (max(1, round((int(side * shrink * scale) - extra) / 16)) * 16 + extra for side in size)
    return height, width


def prepare(frame: Tensor, size: tuple[int, int]) -> Tensor:
    """A frame uint8 (H, W, 3) as float (1, 3, h, w), bicubic, normalised by ImageNet's mean and deviation."""
    image = frame.permute(2, 0, 1)[None].float()
    if image.shape[-2:] != size:
        image = F.interpolate(image, size, mode="bicubic", align_corners=False)
    return normalise(image / 255)


def planes_of(labels: Tensor, count: int, size: tuple[int, int]) -> Tensor:
    """A map int64 (H, W) of 0 to ``count`` as one-hot float (1, 1 + count, h, w), by the nearest pixel."""
    if labels.shape != size:
        labels = F.interpolate(labels[None, None].float(), size, mode="nearest")[0, 0].long()
    return F.one_hot(labels, count + 1).permute(2, 0, 1)[None].float()


def at_stride16(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """The identity int64 (h w,) of each token, by the nearest pixel of one-hot planes (1, 1 + objects, H, W)."""
    return F.interpolate(planes, size, mode="nearest")[0].argmax(0).flatten()


def merge_engines(logits: list[Tensor]) -> Tensor:
    """Logits (1, 1 + N_e, H, W) of engines to those of all targets (1, 1 + sum N_e, H, W), background first.

    The background is where it is for every engine: the product of its probabilities. All are kept in
    [1e-5, 1 - 1e-5]. Source: the released code; one engine's logits stay as they are.
    """
    if len(logits) == 1:
        return logits[0]
    probs = [x.softmax(1) for x in logits]
    background = torch.stack([prob[:, :1] for prob in probs]).prod(0)
    return torch.cat([background, *(prob[:, 1:] for prob in probs)], 1).clamp(1e-5, 1 - 1e-5).logit()
