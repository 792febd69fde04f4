"""Prompts as query masks: the mask of the target on the image that carries its prompt."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from common.nn.preprocessing import resize_logits
from common.nn.sam2 import SAM2, FrameFeatures
from common.nn.sam2.prompts import prompt_points, resize_mask_prompts
from common.video import Prompt


def prompt_mask(sam2: SAM2, features: FrameFeatures, prompt: Prompt, size: tuple[int, int]) -> Tensor:
    """Return the mask of a prompt: a mask prompt itself, or SAM 2's prediction from box and points.

    Args:
        sam2: SAM 2.
        features: of the prompted image.
        prompt: a mask, or a box and / or points.
        size: (H, W) of the prompted image.

    Returns:
        float (1, 1, S, S) in {0, 1}, never empty for a box or a positive point.
    """
    device, side = features.embedding.device, sam2.image_size
    if prompt.mask is not None:
        return fit_masks(prompt.mask.to(device)[None], side)
    points, labels = (x.to(device) for x in prompt_points(prompt, size, side))
    embedding = sam2.without_memory(features)
    answer = sam2.decode(embedding, features, points, labels, multimask=points.shape[1] == 1)
    logits = resize_logits(answer.best().logits.float(), (side, side))
    mask = logits > 0
    # a query needs a mask: where SAM 2 predicts an empty one, the box of the prompt is the mask
    return (mask if mask.any() else _fill_box(points[labels > 0], mask)).float()


def fit_masks(masks: Tensor, side: int) -> Tensor:
    """Resize query masks to the input of the network, as SAM 2 resizes mask prompts, without losing a small target.

    A target that would vanish sets every pixel that it touches instead.

    Args:
        masks: bool (Q, H, W).
        side: S, side of the network's input.

    Returns:
        float (Q, 1, S, S) in {0, 1}, empty only where ``masks`` is.
    """
    fitted = resize_mask_prompts(masks, side)
    touched = F.adaptive_max_pool2d(masks[:, None].float(), (side, side)) > 0
    return torch.where(fitted.flatten(1).any(1).view(-1, 1, 1, 1), fitted, touched).float()


def _fill_box(points: Tensor, like: Tensor) -> Tensor:
    """Fill the bounding box of points float (P, 2) in a mask bool (1, 1, S, S) shaped as ``like``."""
    mask = torch.zeros_like(like)
    if len(points):
        last = like.shape[-1] - 1
        (x0, y0), (x1, y1) = (ends.long().clamp(0, last).tolist() for ends in (points.amin(0), points.amax(0)))
        mask[..., y0 : y1 + 1, x0 : x1 + 1] = True
    return mask
