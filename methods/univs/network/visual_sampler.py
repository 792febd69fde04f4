"""The visual sampler: turns a mask, a box or points on a frame into R tokens, without gradient.

Tokens are features of the map at stride 8 with their position codes (the finest of ``Scene.sources`` and ``codes``).
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
_JITTER = 0.1  # of a side of the box
_LARGE = 0.09  # share of the image from which on a box is jittered


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
    """Sample tokens (count, C) from the cells inside a mask.

    Cells are drawn without replacement; if there are fewer than ``count``, all of them are taken in turn. A cell is
    inside if its top left pixel is; if that leaves none, the cells that the mask touches are used. An empty mask gives
    blank tokens.

    Args:
        scene: features of clips.
        clip: index of the clip in the batch.
        frame: index of the frame in the clip.
        mask: bool (H, W), at the size of the frames before padding.
        count: number of tokens, R.
        extremes: make the leftmost, topmost, rightmost and lowest cell the first four draws if there are enough cells
            (as released, in training).
        generator: of the random draw.
    """
    height, width = scene.sizes[-1]
    padded = F.pad(mask, (0, width * STRIDE - mask.shape[1], 0, height * STRIDE - mask.shape[0]))
    # a cell is tested at one pixel; a mask between these pixels needs the second test
    inside = padded[::STRIDE, ::STRIDE]
    if not inside.any():
        inside = F.max_pool2d(padded[None].float(), STRIDE)[0] > 0
    return _sample_cells(scene, clip, frame, inside, count, extremes, generator)


@torch.no_grad()
def sample_box(
    scene: Scene,
    clip: int,
    frame: int,
    box: Sequence[float],
    count: int,
    generator: torch.Generator | None = None,
) -> VisualTokens:
    """Sample tokens (count, C) from the cells that a box touches; see ``sample_mask``.

    Args:
        scene: features of clips.
        clip: index of the clip in the batch.
        frame: index of the frame in the clip.
        box: (x0, y0, x1, y1) in pixels of the frame.
        count: number of tokens, R.
        generator: of the random draw.
    """
    height, width = scene.sizes[-1]
    x0, y0, x1, y1 = (torch.tensor(box) / STRIDE).tolist()
    x, y = (torch.arange(side, device=scene.mask_features.device) for side in (width, height))
    inside = ((x + 1 > x0) & (x < x1)) & ((y + 1 > y0) & (y < y1))[:, None]
    return _sample_cells(scene, clip, frame, inside, count, False, generator)


@torch.no_grad()
def sample_points(scene: Scene, clip: int, frame: int, points: Tensor, count: int) -> VisualTokens:
    """Sample tokens (count, C) at points, bilinear; the points are taken in turn until there are ``count``.

    Args:
        scene: features of clips.
        clip: index of the clip in the batch.
        frame: index of the frame in the clip.
        points: (K, 2), x and y in pixels of the frame.
        count: number of tokens, R.
    """
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
    """Move centre and sides of a box by up to 10 % of its sides, if it covers more than 9 % of the image.

    Args:
        box: (x0, y0, x1, y1) in pixels.
        size: (height, width) of the image.
        generator: of the random draw.
    """
    limit = torch.tensor([size[1], size[0]])
    low, high = torch.tensor(box, dtype=torch.float32).view(2, 2)
    sides, centre = high - low, (low + high) / 2
    if (sides / limit).prod() > _LARGE:
        noise = _JITTER * (2 * torch.rand(2, 2, generator=generator) - 1)
        centre, sides = centre + noise[0] * sides, (1 + noise[1]) * sides
    centre, sides = centre.clamp(min=0).minimum(limit), sides.minimum(limit)
    x0, y0, x1, y1 = torch.cat([centre - sides / 2, centre + sides / 2]).tolist()
    return x0, y0, x1, y1


def _sample_cells(
    scene: Scene, clip: int, frame: int, inside: Tensor, count: int, extremes: bool, generator: torch.Generator | None
) -> VisualTokens:
    """Tokens (count, C) of the cells where ``inside``, bool (h, w), is True."""
    source, code = scene.sources[-1][clip, frame], scene.codes[-1][clip, frame]
    cells = inside.flatten().nonzero()[:, 0]
    if not len(cells):
        blank = source.new_zeros(count, source.shape[-1])
        return VisualTokens(blank, blank.clone())
    if len(cells) < count:
        picked = cells[torch.arange(count, device=cells.device) % len(cells)]
    else:
        # drawn on the CPU, so that a seed gives the same cells on every device
        picked = cells[torch.randperm(len(cells), generator=generator)[:count].to(cells.device)]
        if extremes:
            width = inside.shape[1]
            columns, rows = cells % width, cells // width
            ends = [columns.argmin(), rows.argmin(), columns.argmax(), rows.argmax()]
            picked[:4] = cells[torch.stack(ends)]
    return VisualTokens(source[picked], code[picked])
