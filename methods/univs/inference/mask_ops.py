"""Measures of mask logits, N targets over T frames at stride 4 of the padded frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from common.video.masks import boxes_from_masks

_STRIDE = 4
_ROWS = 8  # of masks whose overlaps are counted at once


def quality(logits: Tensor) -> Tensor:
    """How sharply masks (N, T, h, w) end, (N,): pixels over 1 for each over -1; 0 where there are none."""
    inner, outer = ((logits > limit).flatten(1).sum(1) for limit in (1, -1))
    return inner / outer.clamp(min=1)


def compete(logits: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Targets compete for each pixel that any claims by weight (N,) times probability; who loses what it claims gets 0.

    Returns:
        Logits of the same shape (N, T, h, w), and what each target wins by what it claimed (N,), 0 for one that wins
        nothing of that.
    """
    claimed = logits > 0
    any_claims = claimed.any(0)
    winner = (logits.sigmoid() * weights[:, None, None, None]).argmax(0)
    won = any_claims & (winner == torch.arange(len(logits), device=logits.device)[:, None, None, None])
    share = won.flatten(1).sum(1) / claimed.flatten(1).sum(1).clamp(min=1)
    share = share * (claimed & won).flatten(1).any(1)
    return logits.masked_fill(claimed & ~won, 0.0), share


def mask_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU (N, M) of masks bool (N, ...) and (M, ...), over all their pixels; 0 of two empty ones."""
    a, b = a.flatten(1), b.flatten(1)
    both = a.new_zeros(len(a), len(b), dtype=torch.float32)
    for start in range(0, len(a), _ROWS):  # not at once: a float copy of all masks is large
        both[start : start + _ROWS] = a[start : start + _ROWS].float() @ b.float().T
    either = a.sum(1)[:, None] + b.sum(1) - both
    return both / either.clamp(min=1)


def frame_iou(mask: Tensor, others: Tensor) -> Tensor:
    """IoU (N,) of a mask bool (T, h, w) with others (N, T, h, w): the largest over the frames; 0 of two empty ones."""
    both, either = (mask & others).flatten(2).sum(2), (mask | others).flatten(2).sum(2)
    return (both / either.clamp(min=1)).amax(1)


def box_iou(masks: Tensor) -> Tensor:
    """IoU (N, N) of the boxes around masks bool (N, T, h, w): the largest over the frames."""
    boxes = boxes_from_masks(masks.flatten(0, 1)).view(*masks.shape[:2], 4).transpose(0, 1)
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    return (both / (area[:, :, None] + area[:, None] - both).clamp(min=1)).amax(0)


def to_frame(logits: Tensor, inner: tuple[int, int], size: tuple[int, int] | None = None) -> Tensor:
    """Logits (N, h, w) at the size of the network's frame before padding, then at that of the video; bilinear."""
    height, width = inner
    large = F.interpolate(logits[:, None], scale_factor=_STRIDE, mode="bilinear", align_corners=False)
    large = large[..., :height, :width]
    if size is not None and size != inner:
        large = F.interpolate(large, size, mode="bilinear", align_corners=False)
    return large[:, 0]


def coarse_to_frame(masks: Tensor, inner: tuple[int, int]) -> Tensor:
    """Masks (..., h, w) at the size of the network's frame before padding, by the nearest cell."""
    large = masks.repeat_interleave(_STRIDE, -2).repeat_interleave(_STRIDE, -1)
    return large[..., : inner[0], : inner[1]]
