"""Outlines of objects: star-convex shapes with a time-varying radius, boxes and rings."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.synthetic.motion import random_angle, uniform

CATEGORIES = ("blob", "star", "gear", "ring", "box")


@dataclass(frozen=True)
class Outline:
    """An outline in object coordinates, in which the object has radius 1.

    Attributes:
        category: one of ``CATEGORIES``.
        points: number of spikes of a star or teeth of a gear.
        depth: depth of spikes or teeth, or width of a ring.
        aspect: height over width of a box.
        wobble: (k, amplitude a, phase, speed) of each deformation of the radius, 1 + a sin(k angle + phase + speed t).
    """

    category: str
    points: int = 0
    depth: float = 0.0
    aspect: float = 1.0
    wobble: tuple[tuple[int, float, float, float], ...] = ()

    @property
    def reach(self) -> float:
        """Upper bound of the distance of the outline from its centre."""
        cut = self.depth if self.category in ("star", "gear") else 0.0
        corner = math.hypot(1.0, self.aspect) if self.category == "box" else 1.0
        return corner * (1.0 + cut) * (1.0 + sum(abs(a) for _, a, _, _ in self.wobble))

    def inside(self, u: Tensor, v: Tensor, t: float) -> Tensor:
        """Return the approximate signed distance to the outline, positive inside.

        Args:
            u: horizontal coordinates, any shape.
            v: vertical coordinates, same shape.
            t: time in frames.
        """
        angle, distance = torch.atan2(v, u), torch.sqrt(u * u + v * v)
        radius = torch.ones_like(u)
        for k, amplitude, phase, speed in self.wobble:
            radius += amplitude * torch.sin(k * angle + (phase + speed * t))
        if self.category == "box":
            return torch.minimum(radius - u.abs(), self.aspect * radius - v.abs())
        if self.category == "ring":
            half = 0.5 * self.depth
            return half - (distance - radius * (1.0 - half)).abs()
        if self.category == "star":
            radius = radius * (1.0 + self.depth * torch.cos(self.points * angle))
        if self.category == "gear":
            radius = radius * (1.0 + self.depth * torch.tanh(4.0 * torch.cos(self.points * angle)))
        return radius - distance


def draw_outline(rng: np.random.Generator, wobble: float, category: str) -> Outline:
    """Draw an outline of a category; blobs deform twice as much as other shapes.

    Args:
        rng: source of randomness.
        wobble: strength of the deformation.
        category: one of ``CATEGORIES``.
    """
    points = int(rng.integers(4, 7)) if category == "star" else int(rng.integers(7, 10))
    depth = {"star": uniform(rng, 0.28, 0.4), "gear": uniform(rng, 0.12, 0.18), "ring": uniform(rng, 0.4, 0.6)}
    share = 1.0 if category == "blob" else 0.5
    waves = tuple(
        (k, share * wobble * uniform(rng, 0.5, 1.2), random_angle(rng), uniform(rng, -0.25, 0.25)) for k in (2, 3, 4)
    )
    return Outline(category, points, depth.get(category, 0.0), uniform(rng, 0.6, 1.0), waves)
