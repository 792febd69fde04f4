"""How hard the generated clips are: one small record of ranges per preset."""

from __future__ import annotations

from dataclasses import dataclass, replace

from common.errors import InputError

Range = tuple[float, float]


@dataclass(frozen=True)
class Preset:
    """Ranges a scene is drawn from. Lengths are fractions of the shorter frame side unless stated, times are frames.

    Attributes:
        name: the preset's name, part of video ids and of the random stream.
        frames: frames of a video by default.
        objects: fewest and most annotated targets.
        diameter: diameter of a target.
        travel: how far a path swings to each side of its centre, in half frame sides.
        period: frames of one swing; with ``travel`` it sets the speed.
        spin: largest steady rotation, radians a frame.
        growth: largest change of size over time, as a natural logarithm.
        wobble: strength of the outline's deformation.
        camera: swing of the camera's pan; its zoom changes by as much.
        light: largest change of brightness, as a fraction.
        distractors: look-alikes per video: shape and texture of a target, a motion of their own, not annotated.
        occluders: bars and boxes per target that sweep over it.
        absence: frames of one round of leaving (or hiding behind a wall) and coming back; 0 = targets stay.
        late: probability that a target (never the first one) enters after the start.
        away: part of each round that is spent outside the frame, at any time of it; instead of the shorter absences
            that spare the start of the video. (0, 0) = not so.
        leaves: probability that a target is away at all, where ``away`` says for how long.
        change: frames of one round of coming apart or opening a hole, and being whole again; 0 = targets stay whole.
        relatives: objects that share two of category, colour and pattern with the first target; they move and leave
            like targets but are not annotated.
    """

    name: str
    frames: int = 24
    objects: tuple[int, int] = (1, 2)
    diameter: Range = (0.20, 0.34)
    travel: Range = (0.25, 0.45)
    period: Range = (30.0, 56.0)
    spin: float = 0.04
    growth: float = 0.2
    wobble: float = 0.12
    camera: float = 0.08
    light: float = 0.1
    distractors: tuple[int, int] = (0, 0)
    occluders: tuple[int, int] = (0, 0)
    absence: int = 0
    late: float = 0.0
    away: Range = (0.0, 0.0)
    leaves: float = 1.0
    change: int = 0
    relatives: tuple[int, int] = (0, 0)


EASY = Preset("easy")
PRESETS = {
    preset.name: preset
    for preset in (
        EASY,
        replace(EASY, name="occlusion", objects=(1, 3), diameter=(0.16, 0.32), occluders=(1, 1), light=0.2),
        replace(EASY, name="distractor", objects=(1, 3), diameter=(0.16, 0.30), distractors=(1, 3), light=0.2),
        replace(EASY, name="reappear", frames=32, objects=(1, 3), diameter=(0.16, 0.32), absence=30, late=0.25),
        replace(EASY, name="topology", frames=32, diameter=(0.26, 0.38), travel=(0.15, 0.35), change=30),
        replace(
            EASY,
            name="long",
            frames=300,
            objects=(1, 4),
            diameter=(0.12, 0.32),
            period=(36.0, 90.0),
            growth=0.35,
            light=0.25,
            distractors=(0, 2),
            occluders=(0, 1),
            absence=60,
            late=0.3,
        ),
    )
}
QUERY = replace(
    EASY, name="query", frames=48, objects=(1, 3), diameter=(0.16, 0.34), light=0.2, absence=24, away=(0.3, 0.6)
)
# What SyntheticQueries takes: targets that come and go, before the first frame too.
QUERIES = {
    preset.name: preset
    for preset in (
        replace(QUERY, relatives=(0, 1)),
        replace(QUERY, name="query-distractor", objects=(1, 2), relatives=(2, 3)),
    )
}


# What SyntheticPanoptic takes: every object is annotated and nothing else passes in front.
PANOPTIC = {
    preset.name: preset
    for preset in (
        replace(
            EASY, name="panoptic", objects=(2, 3), diameter=(0.18, 0.36), absence=30, away=(0.15, 0.35), leaves=0.3
        ),
    )
}


def preset_named(name: str) -> Preset:
    """Look a preset up.

    Raises:
        InputError: no such preset.
    """
    known = {**PRESETS, **QUERIES, **PANOPTIC}
    if name not in known:
        raise InputError(f"preset {name!r} is unknown; choose from {', '.join(known)}")
    return known[name]
