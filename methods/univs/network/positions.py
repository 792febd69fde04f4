"""Sine codes of places and times: 2D over the image, plus a temporal one on top.

C channels; y in the first half of the 2D code, x in the second; channels 2 i and 2 i + 1 are sine and cosine of
angle / 10000^(2 i / width).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from methods.univs.settings import Temporal

_TEMPERATURE = 10000.0
_TURN = 2 * math.pi
_LONGEST = 128  # frames that make a full turn


def sine(angle: Tensor, width: int) -> Tensor:
    """Code (..., width) of angles (...), sine and cosine interleaved."""
    frequency = _TEMPERATURE ** (torch.arange(0, width, 2, device=angle.device) / width)
    phase = angle[..., None] / frequency
    return torch.stack([phase.sin(), phase.cos()], -1).flatten(-2)


def place_code(xy: Tensor, channels: int) -> Tensor:
    """2D code (..., channels) of points (..., 2), x and y as fractions of the padded image."""
    x, y = (xy * _TURN).unbind(-1)
    return torch.cat([sine(y, channels // 2), sine(x, channels // 2)], -1)


def grid_code(size: tuple[int, int], channels: int, device: torch.device | None = None) -> Tensor:
    """2D code (h w, channels) of the cells of a map; a cell lies at its number, from 1, over the side."""
    y, x = (torch.arange(1, side + 1, device=device) / (side + 1e-6) for side in size)
    return place_code(torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1), channels)


def time_code(frame_index: Tensor, channels: int, temporal: Temporal) -> Tensor:
    """Temporal code (B, T, channels) of frames whose index in the video is ``frame_index`` (B, T)."""
    if temporal == "fixed":
        length = frame_index.shape[1]
        place = (torch.arange(1, length + 1, device=frame_index.device) / (length + 1e-6)).expand_as(frame_index)
    else:
        place = frame_index.float() / _LONGEST
    return sine(place * _TURN, channels)
