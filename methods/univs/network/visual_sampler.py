"""The visual sampler: from a mask, a box or points on a frame to R tokens, without gradient.

Tokens are features of the map at stride 8 with their position codes (``Scene.sources`` and ``codes``, finest scale).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.univs.network.positions import place_code
from methods.univs.network.prompts import VisualTokens
from methods.univs.network.scene import Scene

STRIDE = 8
_JITTER, _LARGE = 0.1, 0.09  # of a side; of the image


@torch.no_grad()
def sample_mask(
    scene: Scene,
    clip: int,
    frame: int,
    mask: Tensor,
    count: int,
    extremes: bool = False,
    generator: torch.Generator | None = None,
) -> VisualTokens:
    """``count`` cells inside a mask bool (H, W) of a frame, drawn without replacement, or all of them over and over.

    A cell is inside if its top left pixel is; where no cell is, those that the mask touches count. An empty mask gives
    blank tokens.

    Args:
        mask: at the size of the frames before padding.
        extremes: the first four draws are the leftmost, topmost, rightmost and lowest cell where there are enough
            (as released, in training).

    Returns:
        (count, C).
    """
    height, width = scene.sizes[-1]
    padded = F.pad(mask, (0, width * STRIDE - mask.shape[1], 0, height * STRIDE - mask.shape[0]))
    inside = padded[::STRIDE, ::STRIDE]
    if not inside.any():
        inside = F.max_pool2d(padded[None].float(), STRIDE)[0] > 0
    return _cells(scene, clip, frame, inside, count, extremes, generator)


@torch.no_grad()
def sample_box(
    scene: Scene,
    clip: int,
    frame: int,
    box: Sequence[float],
    count: int,
    generator: torch.Generator | None = None,
) -> VisualTokens:
    """``count`` cells of all that a box (x0, y0, x1, y1) in pixels of the frame touches; see ``sample_mask``."""
    height, width = scene.sizes[-1]
    x0, y0, x1, y1 = (torch.tensor(box) / STRIDE).tolist()
    x, y = (torch.arange(side, device=scene.mask.device) for side in (width, height))
    inside = ((x + 1 > x0) & (x < x1)) & ((y + 1 > y0) & (y < y1))[:, None]
    return _cells(scene, clip, frame, inside, count, False, generator)


@torch.no_grad()
def sample_points(scene: Scene, clip: int, frame: int, points: Tensor, count: int) -> VisualTokens:
    """Features between the cells at points (K, 2) in pixels of the frame, over and over until there are ``count``."""
    height, width = scene.sizes[-1]
    source = scene.sources[-1][clip, frame]
    place = points.to(source) / points.new_tensor([width * STRIDE, height * STRIDE]).to(source)
    grid = source.T.view(1, -1, height, width)
    content = F.grid_sample(grid, (2 * place - 1)[None, None], align_corners=False)[0, :, 0].T
    code = place_code(place, source.shape[-1]) + scene.time_code[clip, frame]
    which = torch.arange(count, device=source.device) % len(points)
    return VisualTokens(content[which], code[which])


def jitter_box(
    box: Sequence[float], size: tuple[int, int], generator: torch.Generator | None = None
) -> tuple[float, float, float, float]:
    """A box on more than 9 % of the image (height, width) with centre and sides moved by up to 10 % of its sides."""
    limit = torch.tensor([size[1], size[0]])
    low, high = torch.tensor(box, dtype=torch.float32).view(2, 2)
    sides, centre = high - low, (low + high) / 2
    if (sides / limit).prod() > _LARGE:
        noise = _JITTER * (2 * torch.rand(2, 2, generator=generator) - 1)
        centre, sides = centre + noise[0] * sides, (1 + noise[1]) * sides
    centre, sides = centre.clamp(min=0).minimum(limit), sides.minimum(limit)
    x0, y0, x1, y1 = torch.cat([centre - sides / 2, centre + sides / 2]).tolist()
    return x0, y0, x1, y1


def _cells(
    scene: Scene, clip: int, frame: int, inside: Tensor, count: int, extremes: bool, generator: torch.Generator | None
) -> VisualTokens:
    source, code = scene.sources[-1][clip, frame], scene.codes[-1][clip, frame]
    cells = inside.flatten().nonzero()[:, 0]
    if not len(cells):
        blank = source.new_zeros(count, source.shape[-1])
        return VisualTokens(blank, blank.clone())
    if len(cells) < count:
        picked = cells[torch.arange(count, device=cells.device) % len(cells)]
    else:
        picked = cells[torch.randperm(len(cells), generator=generator)[:count].to(cells.device)]
        if extremes:
            width = inside.shape[1]
            sides = cells % width, cells // width
            ends = [sides[0].argmin(), sides[1].argmin(), sides[0].argmax(), sides[1].argmax()]
            picked[:4] = cells[torch.stack(ends)]
    return VisualTokens(source[picked], code[picked])
