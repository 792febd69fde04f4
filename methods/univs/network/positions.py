"""Sine position codes: 2D codes over the image, to which a temporal code is added.

Channels 2 i and 2 i + 1 are sine and cosine of angle / 10000^(2 i / channels). A 2D code has y in the first half of
its channels and x in the second.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from methods.univs.settings import Temporal

_TEMPERATURE = 10000.0
_TURN = 2 * math.pi
_MAX_FRAMES = 128  # frames that make a full turn


def sine_code(angle: Tensor, channels: int) -> Tensor:
    """Return codes (..., channels) of angles (...) in radians, sine and cosine interleaved.

    Args:
        angle: any shape.
        channels: an even number.
    """
    frequency = _TEMPERATURE ** (torch.arange(0, channels, 2, device=angle.device) / channels)
    phase = angle[..., None] / frequency
    return torch.stack([phase.sin(), phase.cos()], -1).flatten(-2)


def place_code(xy: Tensor, channels: int) -> Tensor:
    """Return 2D codes (..., channels) of points.

    Args:
        xy: (..., 2), x and y as fractions of the padded image.
        channels: divisible by 4.
    """
    x, y = (xy * _TURN).unbind(-1)
    return torch.cat([sine_code(y, channels // 2), sine_code(x, channels // 2)], -1)


def grid_code(size: tuple[int, int], channels: int, device: torch.device | None = None) -> Tensor:
    """Return 2D codes (h w, channels) of the cells of a map; the coordinates of a cell are (1 .. side) / side.

    Args:
        size: (h, w) of the map.
        channels: divisible by 4.
        device: of the result.
    """
    y, x = (torch.arange(1, side + 1, device=device) / (side + 1e-6) for side in size)
    return place_code(torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1), channels)


def time_code(frame_index: Tensor, channels: int, temporal: Temporal) -> Tensor:
    """Return temporal codes (B, T, channels) of frames.

    Args:
        frame_index: (B, T), indices of the frames in their videos.
        channels: an even number.
        temporal: see ``UniVSSettings``.
    """
    if temporal == "fixed":
        length = frame_index.shape[1]
        place = (torch.arange(1, length + 1, device=frame_index.device) / (length + 1e-6)).expand_as(frame_index)
    else:
        place = frame_index.float() / _MAX_FRAMES
    return sine_code(place * _TURN, channels)
