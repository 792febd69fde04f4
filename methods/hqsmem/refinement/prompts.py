"""What SAM-HQ is told of a mask: its box, or points on and around it (section 4, Supp. Table 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from common.errors import InputError

MARGIN = 0.2  # of a box's sides; negative points lie in the box enlarged by as much


def boxes_of(masks: Tensor) -> Tensor:
    """Inclusive extents (x0, y0, x1, y1) of bool masks (N, H, W), none of them empty: float (N, 4).

    Without margin, and one box for a target in several parts.
    """
    sides = []
    for axis in (1, 2):
        line = masks.any(axis)
        sides.append((line.int().argmax(1), line.shape[1] - 1 - line.flip(1).int().argmax(1)))
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], 1).float()


def sample_points(mask: Tensor, positive: int, negative: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Points on a mask bool (H, W), which is not empty, and off it, all drawn uniformly and with replacement.

    Negative points lie outside the mask, in its box enlarged by ``MARGIN``; where that leaves no pixel, anywhere
    outside the mask. On a mask that fills the frame there are none: they are labelled -10, which SAM-HQ skips.

    Args:
        generator: on the CPU.

    Returns:
        float (P, 2) of x and y in pixels, and int64 labels (P,): 1 on the mask, 0 off it.
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
    """``count`` pixels of a region bool (H, W) as float (count, 2) of x, y; zeros where it is empty."""
    pixels = region.nonzero()
    if not len(pixels):
        return torch.zeros(count, 2)
    return pixels[torch.randint(len(pixels), (count,), generator=generator)].flip(1).float()
