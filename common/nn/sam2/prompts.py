"""Prompts in the form that the decoder takes, and simulated prompts for training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from common.video import Prompt


@dataclass
class PromptSampling:
    """Simulated prompts of training clips; the defaults are SAM 2's.

    Attributes:
        points: probability that a clip is prompted by points or a box rather than by ground-truth masks.
        box: probability that such a prompt is a box.
        prompted_frames: largest number of prompted frames; the number is drawn from 1 to this, and the first frame is
            always among them.
        corrected_frames: largest number of frames with correction clicks, drawn in the same way; clips prompted by
            masks have none.
        clicks: correction clicks on such a frame.
        from_truth: probability that a click is drawn from the ground truth instead of the error.
        feed_back: probability that the previous logits are fed back with a correction click; 1 in SAM 2.
        prompt_only_frames: number of frames of a clip on which a box and a click with corrections are decoded without
            memory and supervised, without storing a memory. The frames are encoded anyway, so boxes and clicks cost
            only a few decodings; 0 in SAM 2.
        prompt_only_clicks: number of correction clicks on these frames.
    """

    points: float = 0.5
    box: float = 0.5
    prompted_frames: int = 2
    corrected_frames: int = 2
    clicks: int = 7
    from_truth: float = 0.1
    feed_back: float = 1.0
    prompt_only_frames: int = 0
    prompt_only_clicks: int = 2


def prompt_points(prompt: Prompt, size: tuple[int, int], side: int) -> tuple[Tensor, Tensor]:
    """Convert a box and / or points to points in pixels of the network's square input.

    The corners of a box are two points, labelled 2 and 3, ahead of the others.

    Args:
        prompt: in pixels of the image on which it is given.
        size: (H, W) of that image.
        side: S, side of the network's input.

    Returns:
        Points float (1, P, 2), x and y, and labels int64 (1, P): 1 on the object, 0 off it, 2 and 3 box corners.
    """
    points = torch.empty(0, 2) if prompt.points is None else prompt.points.float().cpu()
    labels = torch.empty(0, dtype=torch.long) if prompt.labels is None else prompt.labels.long().cpu()
    if prompt.box is not None:
        points = torch.cat([torch.tensor(prompt.box).view(2, 2), points])
        labels = torch.cat([torch.tensor([2, 3]), labels])
    return (points * torch.tensor([side / size[1], side / size[0]]))[None], labels[None]


def resize_mask_prompts(masks: Tensor, side: int) -> Tensor:
    """Resize mask prompts to the square input of the network, as SAM 2 does: antialiased, then thresholded at half.

    Args:
        masks: bool (N, H, W).
        side: S, side of the network's input.

    Returns:
        bool (N, 1, S, S); a target that covers less than half of every pixel is lost.
    """
    planes = masks[:, None].float()
    if planes.shape[-2:] != (side, side):
        planes = F.interpolate(planes, (side, side), mode="bilinear", align_corners=False, antialias=True)
    return planes >= 0.5


def uniform_click(region: Tensor) -> Tensor:
    """Draw a uniformly random pixel of each region bool (B, H, W): x and y float (B, 2).

    An empty region gives a random pixel of the whole frame.
    """
    weights = region.flatten(1).float()
    weights = weights + (weights.sum(1, keepdim=True) == 0)
    index = torch.multinomial(weights, 1)[:, 0]
    width = region.shape[-1]
    return torch.stack([index % width, index // width], -1).float()


def first_click(target: Tensor) -> tuple[Tensor, Tensor]:
    """Draw a positive click on each target, a negative one where it is absent.

    Args:
        target: bool (B, H, W).

    Returns:
        Points float (B, 1, 2) and labels int64 (B, 1).
    """
    return correction_click(torch.zeros_like(target), target)


def correction_click(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Draw a click on the error: positive on a false negative, negative on a false positive.

    Without any error the click is negative, on the background.

    Args:
        predicted: bool (B, H, W).
        target: bool (B, H, W).

    Returns:
        Points float (B, 1, 2) and labels int64 (B, 1).
    """
    error = predicted ^ target
    no_error = ~error.flatten(1).any(1)
    point = uniform_click(torch.where(no_error[:, None, None], ~target, error))
    x, y = point.long().unbind(-1)
    label = target[torch.arange(len(target), device=target.device), y, x].long()
    return point[:, None], label[:, None]


def noisy_box(target: Tensor, noise: float = 0.1, limit: float = 20.0) -> tuple[Tensor, Tensor]:
    """Return the bounding box of each target with randomly moved corners; an absent target gives the whole frame.

    Args:
        target: bool (B, H, W).
        noise: largest move, as a share of the box's side.
        limit: largest move in pixels.

    Returns:
        Corners float (B, 2, 2) as points, and labels int64 (B, 2): 2 and 3.
    """
    height, width = target.shape[-2:]
    sides = []
    for axis, size in ((1, width), (2, height)):
        line = target.any(axis)
        low = line.int().argmax(1)
        high = size - 1 - line.flip(1).int().argmax(1)
        sides.append((low.float(), high.float()))
    (x0, x1), (y0, y1) = sides
    corners = torch.stack([torch.stack([x0, y0], -1), torch.stack([x1, y1], -1)], 1)
    reach = ((corners[:, 1] - corners[:, 0]) * noise).clamp(max=limit)[:, None]
    corners = corners + (2 * torch.rand_like(corners) - 1) * reach
    corners = corners.clamp(min=0).minimum(corners.new_tensor([width - 1, height - 1]))
    labels = torch.tensor([2, 3], device=target.device).expand(len(target), 2)
    return corners, labels
