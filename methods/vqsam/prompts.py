"""From a prompt to the mask of the target, on the query image or on the frame that is the query."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import InputError
from common.nn.sam2 import FrameFeatures, Sam2
from common.video import Prompt


def check_prompt(prompt: Prompt, frame: int, size: tuple[int, int]) -> None:
    """Refuse what VQ-SAM does not know, on a frame of ``size`` (H, W).

    Raises:
        InputError: names target and frame.
    """
    where = f"prompt of target {prompt.target} at frame {frame}"
    if prompt.mask is None and prompt.box is None and prompt.points is None:
        raise InputError(
            f"{where}: VQ-SAM takes a mask or a box on an outside image, or mask, box or points on a frame"
        )
    image = prompt.image
    if image is not None and prompt.points is not None:
        raise InputError(f"{where}: points go on a frame of the video; give a mask or a box of the query image")
    if image is None and prompt.mask is not None and prompt.mask.shape != size:
        raise InputError(f"{where}: the mask is {tuple(prompt.mask.shape)}, the frame is {size}")
    if image is not None and (image.dtype != torch.uint8 or image.ndim != 3 or image.shape[2] != 3):
        raise InputError(f"{where}: the query image is {image.dtype} {tuple(image.shape)}; give uint8 (h, w, 3)")


def prompt_mask(core: Sam2, features: FrameFeatures, prompt: Prompt, size: tuple[int, int]) -> Tensor:
    """The target's mask float (1, 1, S, S) in {0, 1}: as given, or found by SAM 2 from box and points.

    Args:
        core: SAM 2.
        features: of the image that the prompt lies on.
        prompt: see ``check_prompt``.
        size: (H, W) of that image.
    """
    device, side = features.embedding.device, core.image_size
    if prompt.mask is not None:
        return fit_masks(prompt.mask.to(device)[None], side)
    points, labels = _points(prompt)
    points = (points * torch.tensor([side / size[1], side / size[0]])).to(device)
    embedding = core.without_memory(features)
    answer = core.decode(embedding, features, points[None], labels.to(device)[None], multimask=len(points) == 1)
    logits = F.interpolate(answer.best().logits.float(), (side, side), mode="bilinear", align_corners=False)
    found = logits > 0
    return (found if found.any() else _between(points[labels > 0], found)).float()


def fit_masks(masks: Tensor, side: int) -> Tensor:
    """Masks bool (Q, H, W) as float (Q, 1, S, S) in {0, 1}: 1 where at least half is covered, as SAM 2 has it.

    A target of which that leaves nothing keeps every place that it touches.
    """
    wide = masks[:, None].float()
    if tuple(masks.shape[1:]) == (side, side):
        return wide
    fitted = F.interpolate(wide, (side, side), mode="bilinear", align_corners=False, antialias=True) >= 0.5
    touched = F.adaptive_max_pool2d(wide, (side, side)) > 0
    return torch.where(fitted.flatten(1).any(1).view(-1, 1, 1, 1), fitted, touched).float()


def _points(prompt: Prompt) -> tuple[Tensor, Tensor]:
    """Points (P, 2) and labels (P,); a box is two points labelled 2 and 3 ahead of the others."""
    points = torch.empty(0, 2) if prompt.points is None else prompt.points.float().cpu()
    labels = torch.empty(0, dtype=torch.long) if prompt.labels is None else prompt.labels.long().cpu()
    if prompt.box is not None:
        points = torch.cat([torch.tensor(prompt.box).view(2, 2), points])
        labels = torch.cat([torch.tensor([2, 3]), labels])
    return points, labels


def _between(points: Tensor, like: Tensor) -> Tensor:
    """What lies between the corners and the points on the target: a user who gives them says that it is there."""
    mask = torch.zeros_like(like)
    if len(points):
        last = like.shape[-1] - 1
        (x0, y0), (x1, y1) = (ends.long().clamp(0, last).tolist() for ends in (points.amin(0), points.amax(0)))
        mask[..., y0 : y1 + 1, x0 : x1 + 1] = True
    return mask
