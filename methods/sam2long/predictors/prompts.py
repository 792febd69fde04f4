"""Points and boxes as they are given to a predictor, in the form that the decoder takes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from common.errors import InputError


def decoder_points(
    points: Any, labels: Any, box: Any, size: tuple[int, int], side: int, normalize: bool = True
) -> tuple[Tensor, Tensor]:
    """Convert points and boxes to points in pixels of the network's square input.

    The corners of a box are two points, labelled 2 and 3, ahead of the others.

    Args:
        points: (N, 2) or (B, N, 2), x and y in pixels of the image, or None.
        labels: (N,) or (B, N): 1 on the object, 0 off it, 2 and 3 box corners, -1 padding; None without points.
        box: (4,) or (B, 4), x0, y0, x1, y1 in pixels of the image, or None.
        size: (H, W) of the image.
        side: S, side of the network's input.
        normalize: points and boxes are in pixels; otherwise in fractions of the image's sides.

    Returns:
        Points float (B, P, 2) and labels int64 (B, P) on the CPU; B = 1 and P = 0 without points and box.

    Raises:
        InputError: points without labels, shapes that do not match, unknown labels, or numbers that are not finite.
    """
    if (points is None) != (labels is None):
        raise InputError("points and labels must be given together")
    coords, kinds = torch.zeros(1, 0, 2), torch.zeros(1, 0, dtype=torch.long)
    if points is not None:
        coords, kinds = torch.as_tensor(points).float().cpu(), torch.as_tensor(labels).long().cpu()
        coords, kinds = (coords[None] if coords.ndim == 2 else coords), (kinds[None] if kinds.ndim == 1 else kinds)
        if coords.ndim != 3 or coords.shape[2] != 2 or kinds.shape != coords.shape[:2]:
            given = f"{tuple(coords.shape)} and {tuple(kinds.shape)}"
            raise InputError(f"points and labels must be (N, 2) and (N,), or with a batch in front, not {given}")
        if not ((kinds >= -1) & (kinds <= 3)).all():
            raise InputError(f"labels must be 1 (on the object) or 0 (off it), not {kinds.flatten().tolist()}")
    if box is not None:
        corners = torch.as_tensor(box).float().cpu()
        if corners.numel() % 4 or corners.shape[-1] not in (2, 4):
            raise InputError(f"a box must be (x0, y0, x1, y1), not {tuple(corners.shape)}")
        corners = corners.reshape(-1, 2, 2)
        if points is None:
            coords, kinds = coords.expand(len(corners), -1, -1), kinds.expand(len(corners), -1)
        if len(coords) != len(corners):
            raise InputError(f"{len(corners)} boxes do not match the points of {len(coords)} prompts")
        coords = torch.cat([corners, coords], 1)
        kinds = torch.cat([torch.tensor([[2, 3]]).expand(len(corners), 2), kinds], 1)
    if not torch.isfinite(coords).all():
        raise InputError("points and boxes must be finite numbers")
    if normalize:
        coords = coords / torch.tensor([size[1], size[0]])
    return coords * side, kinds
