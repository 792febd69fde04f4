"""Sine encodings of positions on a grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def sine_grid(
    size: Sequence[int], channels: int, scale: float, temperature: float, device: torch.device | None = None
) -> Tensor:
    """Encode the positions of a grid by sines and cosines: x in the first half of the channels, y in the second.

    A coordinate runs from 0 to ``scale`` over its side; channel pairs 2 i and 2 i + 1 are sine and cosine of
    coordinate / temperature^(2 i / half), half = channels / 2.

    Args:
        size: (h, w).
        channels: divisible by 4.
        scale: largest coordinate.
        temperature: base of the frequencies.
        device: of the result.

    Returns:
        float32 (h w, channels).
    """
    (height, width), half = size, channels // 2
    frequency = temperature ** (-torch.arange(0, half, 2, device=device) / half)

    def line(length: int) -> Tensor:
        coordinate = torch.arange(length, device=device) / (length - 1 + 1e-6) * scale
        angle = coordinate[:, None] * frequency
        return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)

    x, y = line(width), line(height)
    grid = torch.cat([x.expand(height, -1, -1), y[:, None].expand(-1, width, -1)], -1)
    return grid.flatten(0, 1)
