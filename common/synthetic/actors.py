"""Everything that moves in a scene: targets, look-alikes, occluders and the camera."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from common.synthetic.motion import Absence, Wave
from common.synthetic.shapes import Outline
from common.synthetic.topology import Change

OUTSIDE = 2.2  # half frame sides from the centre: beyond any target's radius, camera pan and zoom


class Pose(NamedTuple):
    """Where an actor is: centre and radius in units of the shorter frame side, angle in radians."""

    x: float
    y: float
    radius: float
    angle: float


@dataclass(frozen=True)
class Actor:
    """A textured shape on a path.

    Attributes:
        outline: its shape.
        texture: float32 (3, S, S) in 0..255.
        x: path across, in half frame widths from the centre.
        y: path down, in half frame heights from the centre.
        size: natural logarithm of its diameter.
        angle: rotation.
        target: id of the annotated target, 0 for everything else.
        absences: when and how it goes away.
        change: how it comes apart or opens, None where it stays whole.
    """

    outline: Outline
    texture: Tensor
    x: Wave
    y: Wave
    size: Wave
    angle: Wave
    target: int = 0
    absences: tuple[Absence, ...] = ()
    change: Change | None = None

    def pose(self, t: float, half: tuple[float, float]) -> Pose:
        """Pose at frame ``t``; ``half`` is half the frame (width, height) over its shorter side."""
        x, y = self.x(t), self.y(t)
        for absence in self.absences:
            away = 0.0 if absence.behind else absence.amount(t)
            x += away * abs(absence.side[0]) * (OUTSIDE * absence.side[0] - x)
            y += away * abs(absence.side[1]) * (OUTSIDE * absence.side[1] - y)
        return Pose(x * half[0], y * half[1], 0.5 * math.exp(self.size(t)), self.angle(t))


@dataclass(frozen=True)
class Occluder:
    """A bar or box that sweeps over its target again and again.

    Attributes:
        offset: distance from the target along ``normal``; the target is covered near 0.
        normal: direction of the sweep, radians.
        width: half its extent along the normal, over the target's radius.
        outline: a box, long across the normal.
    """

    leader: Actor
    outline: Outline
    texture: Tensor
    offset: Wave
    normal: float
    width: float
    target: int = field(default=0, init=False)
    change: None = field(default=None, init=False)

    def pose(self, t: float, half: tuple[float, float]) -> Pose:
        """Pose at frame ``t``, beside the target that it passes."""
        leader, offset = self.leader.pose(t, half), self.offset(t)
        x, y = leader.x + offset * math.cos(self.normal), leader.y + offset * math.sin(self.normal)
        radius = self.width * 0.5 * math.exp(self.leader.size.centre) / self.outline.aspect
        return Pose(x, y, radius, self.normal + math.pi / 2)


@dataclass(frozen=True)
class Wall:
    """What a target hides behind: it slides in, covers the target fully while it is away, and slides out."""

    leader: Actor
    absence: Absence
    outline: Outline
    texture: Tensor
    target: int = field(default=0, init=False)
    change: None = field(default=None, init=False)

    def pose(self, t: float, half: tuple[float, float]) -> Pose:
        """Pose at frame ``t``, over the target or beside it."""
        leader, offset = self.leader.pose(t, half), 2.5 * (1.0 - self.absence.amount(t))
        x, y = leader.x + offset * self.absence.side[0], leader.y + offset * self.absence.side[1]
        return Pose(x, y, leader.radius * self.leader.outline.reach * 1.15, 0.0)


@dataclass(frozen=True)
class Camera:
    """Pan (in units of the shorter side), natural logarithm of the zoom, and roll."""

    x: Wave
    y: Wave
    zoom: Wave
    roll: Wave

    def see(self, pose: Pose, t: float) -> Pose:
        """A pose in the world as a pose in the frame, both from the frame's centre."""
        zoom, roll = math.exp(self.zoom(t)), self.roll(t)
        cos, sin = zoom * math.cos(roll), zoom * math.sin(roll)
        x, y = pose.x - self.x(t), pose.y - self.y(t)
        return Pose(cos * x - sin * y, sin * x + cos * y, pose.radius * zoom, pose.angle + roll)
