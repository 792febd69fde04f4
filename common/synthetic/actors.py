"""Moving parts of a scene: targets, distractors, occluders and the camera."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from common.synthetic.motion import Absence, Wave
from common.synthetic.shapes import Outline
from common.synthetic.topology import Change

OUTSIDE = 2.2  # distance from the centre, in half frame sides, at which no target is visible for any pan and zoom


class Pose(NamedTuple):
    """Pose of an actor: centre and radius in units of the shorter frame side, angle in radians."""

    x: float
    y: float
    radius: float
    angle: float


@dataclass(frozen=True)
class Actor:
    """A textured shape that moves along a path.

    Attributes:
        outline: shape.
        texture: float32 (3, S, S) in 0..255.
        x: horizontal position, in half frame widths from the centre.
        y: vertical position, in half frame heights from the centre.
        size: natural logarithm of the diameter.
        angle: rotation, radians.
        target: id of the annotated target, 0 if not annotated.
        absences: intervals of absence.
        change: change of topology, None if there is none.
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
        """Return the pose at a time.

        Args:
            t: time in frames.
            half: half the frame (width, height), divided by its shorter side.
        """
        x, y = self.x(t), self.y(t)
        for absence in self.absences:
            amount = 0.0 if absence.behind else absence.amount(t)
            x += amount * abs(absence.side[0]) * (OUTSIDE * absence.side[0] - x)
            y += amount * abs(absence.side[1]) * (OUTSIDE * absence.side[1] - y)
        return Pose(x * half[0], y * half[1], 0.5 * math.exp(self.size(t)), self.angle(t))


@dataclass(frozen=True)
class Occluder:
    """A bar or box that sweeps over its target repeatedly.

    Attributes:
        leader: the target.
        outline: a box, elongated across the normal.
        texture: float32 (3, S, S) in 0..255.
        offset: distance from the target along ``normal``; the target is covered near 0.
        normal: direction of the sweep, radians.
        width: half its extent along the normal, relative to the target's radius.
        target: 0, not annotated.
        change: None.
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
        """Return the pose at a time; see ``Actor.pose``.

        Args:
            t: time in frames.
            half: half the frame (width, height), divided by its shorter side.
        """
        leader, offset = self.leader.pose(t, half), self.offset(t)
        x, y = leader.x + offset * math.cos(self.normal), leader.y + offset * math.sin(self.normal)
        radius = self.width * 0.5 * math.exp(self.leader.size.centre) / self.outline.aspect
        return Pose(x, y, radius, self.normal + math.pi / 2)


@dataclass(frozen=True)
class Wall:
    """A wall that slides in, covers its target fully during an absence, and slides out.

    Attributes:
        leader: the target.
        absence: the absence of the target.
        outline: a box.
        texture: float32 (3, S, S) in 0..255.
        target: 0, not annotated.
        change: None.
    """

    leader: Actor
    absence: Absence
    outline: Outline
    texture: Tensor
    target: int = field(default=0, init=False)
    change: None = field(default=None, init=False)

    def pose(self, t: float, half: tuple[float, float]) -> Pose:
        """Return the pose at a time; see ``Actor.pose``.

        Args:
            t: time in frames.
            half: half the frame (width, height), divided by its shorter side.
        """
        leader, offset = self.leader.pose(t, half), 2.5 * (1.0 - self.absence.amount(t))
        x, y = leader.x + offset * self.absence.side[0], leader.y + offset * self.absence.side[1]
        return Pose(x, y, leader.radius * self.leader.outline.reach * 1.15, 0.0)


@dataclass(frozen=True)
class Camera:
    """Camera motion.

    Attributes:
        x: horizontal pan, in units of the shorter frame side.
        y: vertical pan, in units of the shorter frame side.
        zoom: natural logarithm of the zoom.
        roll: rotation, radians.
    """

    x: Wave
    y: Wave
    zoom: Wave
    roll: Wave

    def project(self, pose: Pose, t: float) -> Pose:
        """Convert a pose from world to frame coordinates, both relative to the frame's centre.

        Args:
            pose: pose in the world.
            t: time in frames.
        """
        zoom, roll = math.exp(self.zoom(t)), self.roll(t)
        cos, sin = zoom * math.cos(roll), zoom * math.sin(roll)
        x, y = pose.x - self.x(t), pose.y - self.y(t)
        return Pose(cos * x - sin * y, sin * x + cos * y, pose.radius * zoom, pose.angle + roll)
