"""Prompts of SAM-HQ for a mask: its box, or points on and around it (Supp. Table 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from common.errors import InputError

MARGIN = 0.2  # negative points lie in the box enlarged by this share of its sides


def boxes_of(masks: Tensor) -> Tensor:
    """Return the tight box of each mask; a mask of several parts has one box.

    Args:
        masks: bool (N, H, W), none of them empty.

    Returns:
        float (N, 4), x0, y0, x1, y1 in pixels, both corners inclusive.
    """
    sides = []
    for axis in (1, 2):  # rows are reduced for x, columns for y; argmax finds the first True
        line = masks.any(axis)
        sides.append((line.int().argmax(1), line.shape[1] - 1 - line.flip(1).int().argmax(1)))
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], 1).float()


def sample_points(mask: Tensor, positive: int, negative: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw points on a mask and off it, uniformly and with replacement.

    Negative points are drawn outside the mask, in its box enlarged by ``MARGIN``; where that leaves no pixel, anywhere
    outside the mask. A mask that fills the frame has none: its negative points are labelled -10, which SAM-HQ ignores.

    Args:
        mask: bool (H, W), not empty.
        positive: number of points on the mask.
        negative: number of points off the mask.
        generator: on the CPU.

    Returns:
        Points float (P, 2), x and y in pixels; and labels int64 (P,), 1 on the mask and 0 off it.

    Raises:
        InputError: a negative number of points, or none at all.
    """
    if positive < 0 or negative < 0 or not positive + negative:
        raise InputError(f"points of a mask: {positive} on it and {negative} off it; give one point at least")
    mask = mask.cpu()
    x0, y0, x1, y1 = boxes_of(mask[None])[0].tolist()
    dx, dy = MARGIN / 2 * (x1 - x0 + 1), MARGIN / 2 * (y1 - y0 + 1)
    near = torch.zeros_like(mask)
    near[max(0, int(y0 - dy)) : int(y1 + dy) + 1, max(0, int(x0 - dx)) : int(x1 + dx) + 1] = True
    around = near & ~mask
    places = [_draw(mask, positive, generator), _draw(around if around.any() else ~mask, negative, generator)]
    labels = [torch.full((positive,), 1), torch.full((negative,), -10 if bool(mask.all()) else 0)]
    return torch.cat(places), torch.cat(labels)


def _draw(region: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw pixels of a region bool (H, W) as float (count, 2), x and y; zeros if the region is empty."""
    pixels = region.nonzero()
    if not len(pixels):
        return torch.zeros(count, 2)
    return pixels[torch.randint(len(pixels), (count,), generator=generator)].flip(1).float()
