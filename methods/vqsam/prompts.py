"""From a prompt to the mask of the target, on the query image or on the frame that is the query."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from common.nn.preprocessing import resize_logits
from common.nn.sam2 import SAM2, FrameFeatures
from common.nn.sam2.prompts import prompt_points, resize_mask_prompts
from common.video import Prompt


def prompt_mask(core: SAM2, features: FrameFeatures, prompt: Prompt, size: tuple[int, int]) -> Tensor:
    """The target's mask float (1, 1, S, S) in {0, 1}: as given, or found by SAM 2 from box and points.

    Args:
        core: SAM 2.
        features: of the image that the prompt lies on.
        prompt: of mask, box or points.
        size: (H, W) of that image.
    """
    device, side = features.embedding.device, core.image_size
    if prompt.mask is not None:
        return fit_masks(prompt.mask.to(device)[None], side)
    points, labels = (x.to(device) for x in prompt_points(prompt, size, side))
    embedding = core.without_memory(features)
    answer = core.decode(embedding, features, points, labels, multimask=points.shape[1] == 1)
    logits = resize_logits(answer.best().logits.float(), (side, side))
    found = logits > 0
    return (found if found.any() else _between(points[labels > 0], found)).float()


def fit_masks(masks: Tensor, side: int) -> Tensor:
    """Masks bool (Q, H, W) as float (Q, 1, S, S) in {0, 1}: 1 where at least half is covered, as SAM 2 has it.

    A target of which that leaves nothing keeps every place that it touches.
    """
    fitted = resize_mask_prompts(masks, side)
    touched = F.adaptive_max_pool2d(masks[:, None].float(), (side, side)) > 0
    return torch.where(fitted.flatten(1).any(1).view(-1, 1, 1, 1), fitted, touched).float()


def _between(points: Tensor, like: Tensor) -> Tensor:
    """What lies between the corners and the points on the target: a user who gives them says that it is there."""
    mask = torch.zeros_like(like)
    if len(points):
        last = like.shape[-1] - 1
        (x0, y0), (x1, y1) = (ends.long().clamp(0, last).tolist() for ends in (points.amin(0), points.amax(0)))
        mask[..., y0 : y1 + 1, x0 : x1 + 1] = True
    return mask
