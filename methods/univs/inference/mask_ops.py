"""Operations on masks of N targets over T frames, (N, T, h, w), at stride 4 of the padded frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from common.video.masks import boxes_from_masks

_STRIDE = 4
_CHUNK = 8  # masks whose overlaps are computed at once


def mask_quality(logits: Tensor) -> Tensor:
    """Return how sharp the contours of masks are, (N,): pixels above 1 divided by pixels above -1.

    Args:
        logits: (N, T, h, w). The quality of a mask without pixels above -1 is 0.
    """
    inner, outer = ((logits > limit).flatten(1).sum(1) for limit in (1, -1))
    return inner / outer.clamp(min=1)


def resolve_overlaps(logits: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Resolve overlaps: each claimed pixel goes to the target with the largest weight x probability.

    A target claims the pixels where its logit is positive. Its logits are set to 0 where it claims a pixel that goes
    to another target.

    Args:
        logits: (N, T, h, w).
        weights: (N,).

    Returns:
        The resolved logits (N, T, h, w); and (N,) the pixels that each target wins, divided by those it claimed, or 0
        for a target that wins none of the pixels it claimed.
    """
    claimed = logits > 0
    claimed_by_any = claimed.any(0)
    winner = (logits.sigmoid() * weights[:, None, None, None]).argmax(0)
    # a target may win a pixel that only others claim: its weight can outdo a larger probability
    won = claimed_by_any & (winner == torch.arange(len(logits), device=logits.device)[:, None, None, None])
    share = won.flatten(1).sum(1) / claimed.flatten(1).sum(1).clamp(min=1)
    share = share * (claimed & won).flatten(1).any(1)
    return logits.masked_fill(claimed & ~won, 0.0), share


def mask_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return IoUs (N, M) over all pixels of all frames; 0 for two empty masks.

    Args:
        a: bool (N, ...).
        b: bool (M, ...).
    """
    a, b = a.flatten(1), b.flatten(1)
    intersection = a.new_zeros(len(a), len(b), dtype=torch.float32)
    for start in range(0, len(a), _CHUNK):  # not at once: a float copy of all masks is large
        intersection[start : start + _CHUNK] = a[start : start + _CHUNK].float() @ b.float().T
    union = a.sum(1)[:, None] + b.sum(1) - intersection
    return intersection / union.clamp(min=1)


def max_frame_iou(mask: Tensor, masks: Tensor) -> Tensor:
    """Return the largest IoU over the frames of one mask with each of N masks, (N,); 0 for two empty masks.

    Args:
        mask: bool (T, h, w).
        masks: bool (N, T, h, w).
    """
    intersection, union = (mask & masks).flatten(2).sum(2), (mask | masks).flatten(2).sum(2)
    return (intersection / union.clamp(min=1)).amax(1)


def max_box_iou(masks: Tensor) -> Tensor:
    """Return the largest IoU over the frames of the boxes around each pair of masks, (N, N).

    Args:
        masks: bool (N, T, h, w).
    """
    boxes = boxes_from_masks(masks.flatten(0, 1)).view(*masks.shape[:2], 4).transpose(0, 1)
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    return (intersection / (area[:, :, None] + area[:, None] - intersection).clamp(min=1)).amax(0)


def upsample_logits(logits: Tensor, frame_size: tuple[int, int], size: tuple[int, int] | None = None) -> Tensor:
    """Resize logits, bilinear, to the network's frame before padding, and then to the video.

    Args:
        logits: (N, h, w).
        frame_size: height and width of the network's frame before padding.
        size: height and width of the video; None = stop at ``frame_size``.
    """
    height, width = frame_size
    large = F.interpolate(logits[:, None], scale_factor=_STRIDE, mode="bilinear", align_corners=False)
    large = large[..., :height, :width]  # padding is at the bottom and on the right
    if size is not None and size != frame_size:
        large = F.interpolate(large, size, mode="bilinear", align_corners=False)
    return large[:, 0]


def upsample_masks(masks: Tensor, frame_size: tuple[int, int]) -> Tensor:
    """Resize masks (..., h, w) to the network's frame before padding, nearest neighbour.

    Args:
        masks: bool (..., h, w).
        frame_size: height and width of the network's frame before padding.
    """
    large = masks.repeat_interleave(_STRIDE, -2).repeat_interleave(_STRIDE, -1)
    return large[..., : frame_size[0], : frame_size[1]]
