"""Referring expressions of targets."""

from __future__ import annotations

import math

from common.synthetic.actors import Actor, Wall
from common.synthetic.draw import Appearance
from common.synthetic.scene import Scene
from common.synthetic.textures import PATTERNS

ACTIONS = {"split": "splits in two", "hole": "opens a hole", "break": "breaks into pieces"}


def describe(scene: Scene, appearances: list[Appearance], target: int, frames: int) -> str:
    """Describe a target by an expression, e.g. ``the small red striped blob that leaves``.

    Args:
        scene: the scene.
        appearances: appearance of each target, by ascending id.
        target: id of the target.
        frames: number of frames.
    """
    appearance = appearances[target - 1]
    actor = next(a for a in scene.actors if isinstance(a, Actor) and a.target == target)
    hides = any(isinstance(a, Wall) and a.leader.target == target for a in scene.actors)
    adjectives = " ".join(filter(None, (_size(actor), appearance.colour, PATTERNS[appearance.pattern])))
    return f"the {adjectives} {appearance.category} that {_action(actor, hides, frames)}"


def _size(actor: Actor) -> str:
    diameter = math.exp(actor.size.centre)
    return "small" if diameter < 0.22 else "large" if diameter > 0.28 else ""


def _action(actor: Actor, hides: bool, frames: int) -> str:
    """Return what a target does, the most distinctive action first."""
    if any(absence.start < 0 for absence in actor.absences):
        return "comes in late"
    if any(not absence.behind for absence in actor.absences):
        return "leaves"
    if hides:
        return "hides"
    if actor.change is not None:
        return ACTIONS[actor.change.kind]
    last = frames - 1
    across, down = actor.x(last) - actor.x(0), actor.y(last) - actor.y(0)
    if abs(across) > abs(down):
        return "moves right" if across > 0 else "moves left"
    return "moves down" if down > 0 else "moves up"
