"""Targets that come apart or open: their masks change in number of parts and holes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from common.synthetic.motion import any_angle, there_and_back, uniform
from common.synthetic.shapes import Outline

Kind = Literal["split", "hole", "break"]
KINDS: tuple[Kind, ...] = ("split", "hole", "break")


@dataclass(frozen=True)
class Change:
    """How a target comes apart or opens, and whether it is whole again.

    Attributes:
        kind: ``split`` into two parts that meet again, a ``hole`` that opens and closes, ``break`` for good.
        start: frame at which it begins, in each period.
        ramp: frames of the way there and of the way back.
        lasts: frames in between, infinite for good.
        period: frames after which it begins anew.
        shifts: how far each piece moves from the centre, in radii of the target; pieces are equal sectors.
        angle: in which direction the first of them goes, radians.
        hole: radius of the open hole, over the target's.
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
        """No point is farther outside the whole outline, in radii."""
        return max(self.shifts, default=0.0)

    def inside(self, outline: Outline, u: Tensor, v: Tensor, t: float) -> tuple[Tensor, Tensor, Tensor]:
        """As ``Outline.inside`` at points (u, v), and where on the whole target these points lie."""
        amount = there_and_back(t % self.period, self.start, self.ramp, self.lasts)
        if not amount:
            return outline.inside(u, v, t), u, v
        if not self.shifts:
            return torch.minimum(outline.inside(u, v, t), torch.sqrt(u * u + v * v) - amount * self.hole), u, v
        count, width = len(self.shifts), 2 * math.pi / len(self.shifts)
        # a piece stays in its own sector, since its sector is convex and it moves along the middle of it
        piece = torch.round((torch.atan2(v, u) - self.angle) / width).long() % count
        middle, shift = self.angle + width * piece, amount * torch.tensor(self.shifts)[piece]
        cos, sin = torch.cos(middle), torch.sin(middle)
        u, v = u - shift * cos, v - shift * sin
        along, across = cos * u + sin * v, cos * v - sin * u
        sides = math.sin(width / 2) * along - math.cos(width / 2) * across.abs()
        return torch.minimum(outline.inside(u, v, t), sides), u, v


def draw_change(rng: np.random.Generator, kind: Kind, frames: int, cycle: int) -> Change:
    """One change in every ``cycle`` frames (at least one), which spares the start and the end; a break is for good."""
    stretch = frames / max(1, round(frames / cycle))
    start, ramp, lasts = (part * stretch for part in (uniform(rng, 0.1, 0.25), 0.2, uniform(rng, 0.15, 0.3)))
    if kind == "hole":
        return Change(kind, start, ramp, lasts, stretch, hole=uniform(rng, 0.28, 0.36))
    if kind == "split":
        apart = uniform(rng, 0.4, 0.7)
        return Change(kind, start, ramp, lasts, stretch, (apart, apart), any_angle(rng))
    shifts = tuple(uniform(rng, 0.4, 0.8) for _ in range(int(rng.integers(3, 6))))
    return Change(kind, start, ramp, math.inf, shifts=shifts, angle=any_angle(rng))
