"""Backgrounds of sky, ground and water with their regions."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from common.synthetic.motion import random_angle, uniform
from common.synthetic.textures import blend, noise

STUFF = ("ground", "sky", "water")
TEXELS = 384  # side of the background texture; a frame shows about its inner third
SHORTER = 1 / 3  # shorter frame side, in half sides of the background
EARTH = ((115, 90, 55), (90, 125, 60), (165, 145, 105))


def draw_regions(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Draw a background with sky above a wavy horizon and ground, water or both below it.

    Args:
        rng: source of randomness.

    Returns:
        Texture float32 (3, S, S) in 0..255, and the region of each texel, uint8 (S, S), an index in ``STUFF``.
    """
    line = torch.linspace(-1, 1, TEXELS) / SHORTER
    x, y = line[None], line[:, None]
    horizon = uniform(rng, -0.5, 0.2) + uniform(rng, -0.3, 0.3) * x
    for k in (1, 2, 4):
        horizon = horizon + uniform(rng, 0.02, 0.12) / k * torch.sin(2 * k * x + random_angle(rng))
    angle, shore = random_angle(rng), uniform(rng, -0.3, 0.3)
    water = math.cos(angle) * x + math.sin(angle) * (y - 0.5) > shore + 0.05 * torch.sin(6 * (x + y))
    kind = rng.random()  # half of the backgrounds have both, a quarter only water, a quarter only ground
    water = water if kind < 0.5 else torch.full_like(water, kind < 0.75)
    regions = torch.where(y < horizon, STUFF.index("sky"), torch.where(water, STUFF.index("water"), 0)).to(torch.uint8)
    picture = torch.zeros(3, TEXELS, TEXELS)
    for region, paint in enumerate((_ground, _sky, _water)):
        picture = torch.where(regions == region, paint(rng), picture)
    return picture, regions


def _ground(rng: np.random.Generator) -> Tensor:
    first = np.array(EARTH[int(rng.integers(len(EARTH)))]) + rng.uniform(-15, 15, 3)
    return blend(first, 0.55 * first, 0.5 * noise(40, TEXELS, rng) + 0.5 * noise(128, TEXELS, rng))


def _sky(rng: np.random.Generator) -> Tensor:
    first = np.array((130, 180, 235)) + rng.uniform(-20, 20, 3)
    return blend(first, np.full(3, 240.0), noise(12, TEXELS, rng) ** 2)


def _water(rng: np.random.Generator) -> Tensor:
    first = np.array((30, 85, 130)) + rng.uniform(-20, 20, 3)
    line = torch.linspace(-1, 1, TEXELS)
    ripples = torch.sin(uniform(rng, 60, 90) * line[:, None] + 4 * noise(24, TEXELS, rng))
    return blend(first, first + 55, 0.5 + 0.5 * ripples)
