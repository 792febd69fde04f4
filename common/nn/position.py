"""Sine encodings of the places on a grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def sine_grid(
    size: Sequence[int], channels: int, scale: float, temperature: float, device: torch.device | None = None
) -> Tensor:
    """Encoding float32 (h w, channels) of a grid of size (h, w): x in the first half of the channels, y in the second.

    A coordinate runs from 0 to ``scale`` over its side; channel pairs 2 i and 2 i + 1 are sine and cosine of
    coordinate / temperature^(2 i / half).

    Args:
        channels: divisible by 4.
    """
    (height, width), half = size, channels // 2
    frequency = temperature ** (-torch.arange(0, half, 2, device=device) / half)

    def line(length: int) -> Tensor:
        place = torch.arange(length, device=device) / (length - 1 + 1e-6) * scale
        angle = place[:, None] * frequency
        return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)

    x, y = line(width), line(height)
    grid = torch.cat([x.expand(height, -1, -1), y[:, None].expand(-1, width, -1)], -1)
    return grid.flatten(0, 1)
