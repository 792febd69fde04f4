"""Random generation of scenes from a preset."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from common.synthetic.actors import Actor, Camera, Occluder, Wall
from common.synthetic.motion import Absence, Wave, draw_absences, draw_long_absences, draw_wave, random_angle, uniform
from common.synthetic.presets import Preset
from common.synthetic.scene import Scene
from common.synthetic.shapes import CATEGORIES, Outline, draw_outline
from common.synthetic.textures import COLOURS, PATTERNS, background_texture, object_texture
from common.synthetic.topology import KINDS, draw_change


@dataclass(frozen=True)
class Appearance:
    """Appearance of a target, as used in expressions.

    Attributes:
        category: one of ``shapes.CATEGORIES``.
        colour: one of ``textures.COLOURS``.
        pattern: one of ``textures.PATTERNS``.
    """

    category: str
    colour: str
    pattern: str


def draw_scene(
    preset: Preset, frames: int, objects: int | None, rng: np.random.Generator
) -> tuple[Scene, list[Appearance]]:
    """Draw a scene.

    Args:
        preset: ranges of the parameters.
        frames: number of frames.
        objects: number of targets; None draws it from the preset's range.
        rng: source of randomness.

    Returns:
        The scene, and the appearance of each target by ascending id.
    """
    number = objects or int(rng.integers(preset.objects[0], preset.objects[1] + 1))
    background = background_texture(rng)
    camera = _draw_camera(preset, rng)
    light = draw_wave(rng, 1.0 - 0.5 * preset.light, preset.light, preset.period)
    colours = [str(name) for name in rng.permutation(list(COLOURS))]
    appearances, targets = [], list[Actor]()
    for target in range(1, number + 1):
        appearance = Appearance(
            str(rng.choice(CATEGORIES)), colours[target % len(colours)], str(rng.choice(list(PATTERNS)))
        )
        appearances.append(appearance)
        targets.append(_draw_actor(preset, appearance, targets, frames, target, rng))
    distractors: list[Actor] = []
    for _ in range(int(rng.integers(preset.distractors[0], preset.distractors[1] + 1))):
        distractors.append(_draw_distractor(preset, targets, distractors, appearances, rng))
    for _ in range(int(rng.integers(preset.relatives[0], preset.relatives[1] + 1)) if preset.relatives[1] else 0):
        relative = draw_relative(appearances[0], rng)
        distractors.append(_draw_actor(preset, relative, [*targets, *distractors], frames, 0, rng))
    if preset.change:
        targets = _draw_changes(preset, targets, frames, rng)
    crowd = [*targets, *distractors]
    actors = [crowd[k] for k in rng.permutation(len(crowd))]
    return Scene(background, [*actors, *_draw_covers(preset, targets, rng)], camera, light), appearances


def draw_relative(appearance: Appearance, rng: np.random.Generator) -> Appearance:
    """Draw an appearance that differs from another one in exactly one attribute.

    Args:
        appearance: the other appearance.
        rng: source of randomness.
    """
    values = {"category": CATEGORIES, "colour": tuple(COLOURS), "pattern": tuple(PATTERNS)}
    attribute = str(rng.choice(list(values)))
    choices = [value for value in values[attribute] if value != getattr(appearance, attribute)]
    return replace(appearance, **{attribute: str(rng.choice(choices))})


def _draw_camera(preset: Preset, rng: np.random.Generator) -> Camera:
    slow = (1.5 * preset.period[0], 2.5 * preset.period[1])
    swing = preset.camera
    x, y, zoom = (draw_wave(rng, 0.0, uniform(rng, 0.3, 1.0) * swing, slow) for _ in range(3))
    return Camera(x, y, zoom, draw_wave(rng, 0.0, 0.4 * swing, slow))


def _draw_actor(
    preset: Preset, appearance: Appearance, others: list[Actor], frames: int, target: int, rng: np.random.Generator
) -> Actor:
    late = target > 1 and bool(rng.random() < preset.late)
    absences: tuple[Absence, ...] = ()
    if preset.away[1]:
        if preset.leaves >= 1 or rng.random() < preset.leaves:
            absences = draw_long_absences(rng, frames, preset.absence, preset.away)
    elif preset.absence:
        absences = draw_absences(rng, frames, preset.absence, late)
    outline = draw_outline(rng, preset.wobble, appearance.category)
    texture = object_texture(appearance.colour, appearance.pattern, rng)
    growth = uniform(rng, 0.3, 1) * preset.growth
    size = draw_wave(rng, math.log(uniform(rng, *preset.diameter)), growth, preset.period)
    angle = Wave(random_angle(rng), drift=uniform(rng, -preset.spin, preset.spin))
    x, y = _draw_path(preset, size, others, rng)
    return Actor(outline, texture, x, y, size, angle, target, absences)


def _draw_changes(preset: Preset, targets: list[Actor], frames: int, rng: np.random.Generator) -> list[Actor]:
    """Add a change of topology to each target; kinds alternate within a video. A ring splits instead of opening."""
    first, changed = int(rng.integers(len(KINDS))), []
    for index, target in enumerate(targets):
        kind = KINDS[(first + index) % len(KINDS)]
        if kind == "hole" and target.outline.category == "ring":
            kind = "split"
        changed.append(replace(target, change=draw_change(rng, kind, frames, preset.change)))
    return changed


def _draw_distractor(
    preset: Preset,
    targets: list[Actor],
    distractors: list[Actor],
    appearances: list[Appearance],
    rng: np.random.Generator,
) -> Actor:
    """Draw a distractor with the texture and category of a random target, but another outline, size and path."""
    model = targets[int(rng.integers(len(targets)))]
    size = draw_wave(rng, model.size.centre + uniform(rng, -0.15, 0.15), preset.growth, preset.period)
    angle = Wave(random_angle(rng), drift=uniform(rng, -preset.spin, preset.spin))
    x, y = _draw_path(preset, size, [*targets, *distractors], rng)
    outline = draw_outline(rng, preset.wobble, appearances[model.target - 1].category)
    return Actor(outline, model.texture, x, y, size, angle)


def _draw_path(preset: Preset, size: Wave, others: list[Actor], rng: np.random.Generator) -> tuple[Wave, Wave]:
    """Draw a path that starts clear of the other actors: the first such of 20 candidates, or the clearest."""
    best, best_gap = None, -math.inf
    for _ in range(20):
        travel = uniform(rng, *preset.travel)
        limit = max(0.1, 0.85 - travel)
        x, y = (draw_wave(rng, uniform(rng, -limit, limit), travel, preset.period) for _ in range(2))
        gaps = [
            math.hypot(x(0) - other.x(0), y(0) - other.y(0)) - 1.2 * (math.exp(size(0)) + math.exp(other.size(0)))
            for other in others
        ]
        gap = min(gaps, default=0.0)
        if best is None or gap > best_gap:
            best, best_gap = (x, y), gap
        if gap >= 0:
            break
    assert best is not None
    return best


def _draw_covers(preset: Preset, targets: list[Actor], rng: np.random.Generator) -> list[Occluder | Wall]:
    """Draw what covers the targets: sweeping bars and boxes, and the walls that they hide behind."""
    covers: list[Occluder | Wall] = []
    for target in targets:
        for _ in range(int(rng.integers(preset.occluders[0], preset.occluders[1] + 1))):
            covers.append(_draw_occluder(preset, target, rng))
        for absence in target.absences:
            if absence.behind:
                covers.append(Wall(target, absence, Outline("box"), _cover_texture(rng)))
    return covers


def _draw_occluder(preset: Preset, target: Actor, rng: np.random.Generator) -> Occluder:
    """Draw a bar or a box that starts at the far end of its sweep, so that its target is visible in the first frame."""
    quarter = float(rng.choice((1, -1))) * math.pi / 2
    offset = Wave(sines=((uniform(rng, 0.45, 0.7), 0.9 * uniform(rng, *preset.period), quarter),))
    width, length = uniform(rng, 0.5, 1.1), float(rng.choice((1.3, 8.0)))
    outline = Outline("box", aspect=width / length)
    return Occluder(target, outline, _cover_texture(rng), offset, random_angle(rng), width)


def _cover_texture(rng: np.random.Generator) -> Tensor:
    return object_texture(str(rng.choice(list(COLOURS))), str(rng.choice(list(PATTERNS))), rng)
