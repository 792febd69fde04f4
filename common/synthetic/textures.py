"""Random textures of objects and backgrounds."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

COLOURS = {
    "red": (210, 40, 40),
    "orange": (240, 140, 30),
    "yellow": (235, 220, 50),
    "green": (50, 170, 60),
    "cyan": (60, 200, 210),
    "blue": (50, 80, 215),
    "purple": (140, 60, 190),
    "pink": (240, 130, 190),
    "white": (240, 240, 240),
    "black": (25, 25, 25),
}
PATTERNS = {
    "stripes": "striped",
    "checks": "checkered",
    "dots": "dotted",
    "noise": "mottled",
    "gradient": "shaded",
    "solid": "plain",
}


def object_texture(colour: str, pattern: str, rng: np.random.Generator, size: int = 64) -> Tensor:
    """Draw a texture of a named colour with a pattern in a second tone of it.

    Args:
        colour: one of ``COLOURS``.
        pattern: one of ``PATTERNS``.
        rng: source of randomness.
        size: side in pixels.

    Returns:
        float32 (3, size, size) in 0..255.
    """
    first = np.array(COLOURS[colour]) + rng.uniform(-15, 15, 3)
    towards = 0.0 if first.mean() > 110 else 255.0
    second = first + (towards - first) * rng.uniform(0.45, 0.7)
    return blend(first, second, _pattern(pattern, size, rng))


def background_texture(rng: np.random.Generator, size: int = 256) -> Tensor:
    """Draw a texture of two muted colours with a large pattern and noise.

    Args:
        rng: source of randomness.
        size: side in pixels.

    Returns:
        float32 (3, size, size) in 0..255.
    """
    grey = rng.uniform(50, 200)
    first, second = (grey + (rng.uniform(20, 235, 3) - grey) * 0.6 for _ in range(2))
    base = blend(first, second, _pattern(str(rng.choice(list(PATTERNS))), size, rng, scale=2.0))
    clouds = sum(noise(cells, size, rng) * weight for cells, weight in ((6, 50.0), (20, 35.0), (64, 25.0)))
    return (base + clouds - 55.0).clamp(0, 255)


def blend(first: NDArray[np.float64], second: NDArray[np.float64], amount: Tensor) -> Tensor:
    """Mix two colours.

    Args:
        first: (3,) in 0..255.
        second: (3,) in 0..255.
        amount: share of the second colour at each pixel, (H, W) in 0..1.

    Returns:
        float32 (3, H, W) in 0..255.
    """
    a, b = (torch.from_numpy(np.asarray(c, dtype=np.float32))[:, None, None] for c in (first, second))
    return torch.lerp(a.expand(3, *amount.shape), b.expand(3, *amount.shape), amount).clamp(0, 255)


def noise(cells: int, size: int, rng: np.random.Generator) -> Tensor:
    """Draw smooth noise by interpolating a grid of random values.

    Args:
        cells: side of the grid.
        size: side of the result in pixels.
        rng: source of randomness.

    Returns:
        float32 (size, size) in [0, 1].
    """
    grid = torch.from_numpy(rng.random((1, 1, cells, cells), dtype=np.float32))
    return F.interpolate(grid, size=(size, size), mode="bilinear", align_corners=True)[0, 0]


def _pattern(kind: str, size: int, rng: np.random.Generator, scale: float = 1.0) -> Tensor:
    """Draw a pattern (size, size) in [0, 1]; ``scale`` multiplies its spatial frequency."""
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi, 2)
    frequency = scale * rng.uniform(5.0, 9.0)
    line = torch.linspace(-1, 1, size)
    along = frequency * (line[None] * np.cos(angle) + line[:, None] * np.sin(angle)) + phase[0]
    across = frequency * (line[:, None] * np.cos(angle) - line[None] * np.sin(angle)) + phase[1]
    if kind == "stripes":
        return 0.5 + 0.5 * torch.tanh(4 * torch.sin(along))  # tanh sharpens the edges of stripes
    if kind == "checks":
        return 0.5 + 0.5 * torch.tanh(6 * torch.sin(along) * torch.sin(across))
    if kind == "dots":
        return 0.5 + 0.5 * torch.tanh(4 * (torch.cos(along) + torch.cos(across) - 0.7))
    if kind == "noise":
        return noise(int(4 + 6 * scale), size, rng)
    if kind == "gradient":
        ramp: Tensor = (0.5 + (along - phase[0]) / (2.6 * frequency)).clamp(0, 1)
        return ramp
    return 0.15 * noise(int(3 * scale), size, rng)
