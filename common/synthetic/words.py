"""Expressions: what a person would call a target."""

from __future__ import annotations

import math

from common.synthetic.actors import Actor, Wall
from common.synthetic.draw import Look
from common.synthetic.scene import Scene
from common.synthetic.textures import PATTERNS

DEEDS = {"split": "splits in two", "hole": "opens a hole", "break": "breaks into pieces"}


def describe(scene: Scene, looks: list[Look], target: int, frames: int) -> str:
    """An expression for a target, e.g. ``the small red striped blob that leaves``."""
    look = looks[target - 1]
    actor = next(a for a in scene.actors if isinstance(a, Actor) and a.target == target)
    hides = any(isinstance(a, Wall) and a.leader.target == target for a in scene.actors)
    adjectives = " ".join(filter(None, (_size(actor), look.colour, PATTERNS[look.pattern])))
    return f"the {adjectives} {look.category} that {_deed(actor, hides, frames)}"


def _size(actor: Actor) -> str:
    diameter = math.exp(actor.size.centre)
    return "small" if diameter < 0.22 else "large" if diameter > 0.28 else ""


def _deed(actor: Actor, hides: bool, frames: int) -> str:
    """What a target does: the most telling thing first."""
    if any(absence.start < 0 for absence in actor.absences):
        return "comes in late"
    if any(not absence.behind for absence in actor.absences):
        return "leaves"
    if hides:
        return "hides"
    if actor.change is not None:
        return DEEDS[actor.change.kind]
    last = frames - 1
    across, down = actor.x(last) - actor.x(0), actor.y(last) - actor.y(0)
    if abs(across) > abs(down):
        return "moves right" if across > 0 else "moves left"
    return "moves down" if down > 0 else "moves up"
