"""Colours and surface patterns, drawn once per video."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
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
    """Texture float32 (3, size, size) in 0..255: a named colour with a pattern in a second tone of it."""
    first = np.array(COLOURS[colour]) + rng.uniform(-15, 15, 3)
    towards = 0.0 if first.mean() > 110 else 255.0
    second = first + (towards - first) * rng.uniform(0.45, 0.7)
    return blend(first, second, _pattern(pattern, size, rng))


def background_texture(rng: np.random.Generator, size: int = 256) -> Tensor:
    """Texture float32 (3, size, size) in 0..255: two muted colours, a large pattern and clouds of noise."""
    grey = rng.uniform(50, 200)
    first, second = (grey + (rng.uniform(20, 235, 3) - grey) * 0.6 for _ in range(2))
    base = blend(first, second, _pattern(str(rng.choice(list(PATTERNS))), size, rng, scale=2.0))
    clouds = sum(noise(cells, size, rng) * weight for cells, weight in ((6, 50.0), (20, 35.0), (64, 25.0)))
    return (base + clouds - 55.0).clamp(0, 255)


def blend(first: np.ndarray, second: np.ndarray, amount: Tensor) -> Tensor:
    """The colours (3,) mixed: (3, H, W) in 0..255, ``amount`` (H, W) of the second one, in 0..1."""
    a, b = (torch.from_numpy(np.asarray(c, dtype=np.float32))[:, None, None] for c in (first, second))
    return torch.lerp(a.expand(3, *amount.shape), b.expand(3, *amount.shape), amount).clamp(0, 255)


def noise(cells: int, size: int, rng: np.random.Generator) -> Tensor:
    """Smooth noise (size, size) in [0, 1] from a grid of ``cells`` random values a side."""
    grid = torch.from_numpy(rng.random((1, 1, cells, cells), dtype=np.float32))
    return F.interpolate(grid, size=(size, size), mode="bilinear", align_corners=True)[0, 0]


def _pattern(kind: str, size: int, rng: np.random.Generator, scale: float = 1.0) -> Tensor:
    """Pattern (size, size) in [0, 1]; ``scale`` multiplies its spatial frequency."""
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi, 2)
    frequency = scale * rng.uniform(5.0, 9.0)
    line = torch.linspace(-1, 1, size)
    along = frequency * (line[None] * np.cos(angle) + line[:, None] * np.sin(angle)) + phase[0]
    across = frequency * (line[:, None] * np.cos(angle) - line[None] * np.sin(angle)) + phase[1]
    if kind == "stripes":
        return 0.5 + 0.5 * torch.tanh(4 * torch.sin(along))
    if kind == "checks":
        return 0.5 + 0.5 * torch.tanh(6 * torch.sin(along) * torch.sin(across))
    if kind == "dots":
        return 0.5 + 0.5 * torch.tanh(4 * (torch.cos(along) + torch.cos(across) - 0.7))
    if kind == "noise":
        return noise(int(4 + 6 * scale), size, rng)
    if kind == "gradient":
        return (0.5 + (along - phase[0]) / (2.6 * frequency)).clamp(0, 1)
    return 0.15 * noise(int(3 * scale), size, rng)
