"""Changes of topology: masks whose number of parts or holes changes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from common.synthetic.motion import random_angle, smooth_pulse, uniform
from common.synthetic.shapes import Outline

Kind = Literal["split", "hole", "break"]
KINDS: tuple[Kind, ...] = ("split", "hole", "break")


@dataclass(frozen=True)
class Change:
    """A change of a target's topology.

    Attributes:
        kind: ``split`` into two parts that rejoin, a ``hole`` that opens and closes, or a permanent ``break``.
        start: frame at which the change begins, within each period.
        ramp: frames of the change and of its reversal.
        lasts: frames in between; infinite if it is permanent.
        period: frames between repetitions.
        shifts: distance by which each piece moves from the centre, in radii of the target; pieces are equal sectors.
        angle: direction of the first piece, radians.
        hole: radius of the open hole, relative to the target's.
    """

    kind: Kind
    start: float
    ramp: float
    lasts: float
    period: float = math.inf
    shifts: tuple[float, ...] = ()
    angle: float = 0.0
    hole: float = 0.0

    @property
    def reach(self) -> float:
        """Upper bound of the distance of a piece from the undivided outline, in radii."""
        return max(self.shifts, default=0.0)

    def inside(self, outline: Outline, u: Tensor, v: Tensor, t: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return the signed distance to the changed outline, and the points' coordinates on the undivided target.

        Args:
            outline: undivided outline.
            u: horizontal coordinates, any shape.
            v: vertical coordinates, same shape.
            t: time in frames.
        """
        amount = smooth_pulse(t % self.period, self.start, self.ramp, self.lasts)
        if not amount:
            return outline.inside(u, v, t), u, v
        if not self.shifts:
            return torch.minimum(outline.inside(u, v, t), torch.sqrt(u * u + v * v) - amount * self.hole), u, v
        count, width = len(self.shifts), 2 * math.pi / len(self.shifts)
        # A piece stays in its sector, which is convex, because it moves along the sector's bisector.
        piece = torch.round((torch.atan2(v, u) - self.angle) / width).long() % count
        middle, shift = self.angle + width * piece, amount * torch.tensor(self.shifts)[piece]
        cos, sin = torch.cos(middle), torch.sin(middle)
        u, v = u - shift * cos, v - shift * sin
        along, across = cos * u + sin * v, cos * v - sin * u
        sides = math.sin(width / 2) * along - math.cos(width / 2) * across.abs()
        return torch.minimum(outline.inside(u, v, t), sides), u, v


def draw_change(rng: np.random.Generator, kind: Kind, frames: int, cycle: int) -> Change:
    """Draw one change in every interval of about ``cycle`` frames, at least one; a break is permanent.

    Args:
        rng: source of randomness.
        kind: kind of the change.
        frames: number of frames of the video.
        cycle: approximate length of an interval, frames.
    """
    stretch = frames / max(1, round(frames / cycle))
    start, ramp, lasts = (part * stretch for part in (uniform(rng, 0.1, 0.25), 0.2, uniform(rng, 0.15, 0.3)))
    if kind == "hole":
        return Change(kind, start, ramp, lasts, stretch, hole=uniform(rng, 0.28, 0.36))
    if kind == "split":
        apart = uniform(rng, 0.4, 0.7)
        return Change(kind, start, ramp, lasts, stretch, (apart, apart), random_angle(rng))
    shifts = tuple(uniform(rng, 0.4, 0.8) for _ in range(int(rng.integers(3, 6))))
    return Change(kind, start, ramp, math.inf, shifts=shifts, angle=random_angle(rng))
