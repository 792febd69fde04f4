"""A user's points and boxes as the decoder takes them; simulated users for training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from common.video import Prompt


@dataclass
class PromptSampling:
    """How training clips are prompted; the defaults are SAM 2's.

    Attributes:
        points: probability that a clip's first prompts are points or a box, not the ground-truth mask.
        box: probability that such a prompt starts with a box.
        prompted_frames: at most this many frames get a first prompt (1 .. this, drawn); the first frame always does.
        corrected_frames: at most this many frames get correction clicks (1 .. this, drawn), on point clips only.
        clicks: correction clicks on such a frame.
        from_truth: probability that a click is drawn from the ground truth instead of the error.
        feed_back: probability that a correction click comes with the logits before it.
        prompt_only_frames: on so many frames of each clip a box, and a click with corrections, are answered without
            memory and supervised, and nothing is remembered. The frames are encoded anyway, so that boxes and clicks
            are learned at the price of a few decodings; 0 in SAM 2.
        prompt_only_clicks: correction clicks there.
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
    """Points float (1, P, 2) in pixels of the square input and labels int64 (1, P) of a prompt of box and / or points.

    A box is two points, labelled 2 and 3, ahead of the others.

    Args:
        prompt: its pixels are those of the image that it lies on.
        size: (H, W) of that image.
        side: of the network's input.
    """
    points = torch.empty(0, 2) if prompt.points is None else prompt.points.float().cpu()
    labels = torch.empty(0, dtype=torch.long) if prompt.labels is None else prompt.labels.long().cpu()
    if prompt.box is not None:
        points = torch.cat([torch.tensor(prompt.box).view(2, 2), points])
        labels = torch.cat([torch.tensor([2, 3]), labels])
    return (points * torch.tensor([side / size[1], side / size[0]]))[None], labels[None]


def uniform_click(region: Tensor) -> Tensor:
    """A uniformly random pixel of each bool (B, H, W) region, as float (B, 2) x, y; any pixel where one is empty."""
    weights = region.flatten(1).float()
    weights = weights + (weights.sum(1, keepdim=True) == 0)
    index = torch.multinomial(weights, 1)[:, 0]
    width = region.shape[-1]
    return torch.stack([index % width, index // width], -1).float()


def first_click(target: Tensor) -> tuple[Tensor, Tensor]:
    """One positive click on each target bool (B, H, W), a negative one where it is absent.

    Returns:
        points (B, 1, 2), labels (B, 1).
    """
    return correction_click(torch.zeros_like(target), target)


def correction_click(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """A click on the error of bool masks (B, H, W): positive where missed, negative where invented.

    With no error at all it is negative, on the background.

    Returns:
        points (B, 1, 2), labels (B, 1).
    """
    wrong = predicted ^ target
    right = ~wrong.flatten(1).any(1)
    point = uniform_click(torch.where(right[:, None, None], ~target, wrong))
    x, y = point.long().unbind(-1)
    label = target[torch.arange(len(target), device=target.device), y, x].long()
    return point[:, None], label[:, None]


def noisy_box(target: Tensor, noise: float = 0.1, limit: float = 20.0) -> tuple[Tensor, Tensor]:
    """The box of each target bool (B, H, W), corners moved by up to 10 % of its side and 20 pixels.

    Returns:
        points (B, 2, 2): the corners; labels (B, 2): 2 and 3. An absent target gives the whole frame.
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
