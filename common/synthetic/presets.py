"""Presets of the synthetic videos: ranges of the scene parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace

from common.errors import InputError

Range = tuple[float, float]


@dataclass(frozen=True)
class Preset:
    """Ranges of scene parameters. Lengths are fractions of the shorter frame side unless stated, times are in frames.

    Attributes:
        name: name of the preset, part of video ids and of the random stream.
        frames: default number of frames.
        objects: minimum and maximum number of annotated targets.
        diameter: range of a target's diameter.
        travel: range of a path's amplitude, in half frame sides.
        period: range of the period of motion; with ``travel`` it determines the speed.
        spin: maximum constant rotation, radians per frame.
        growth: maximum change of size over time, as a natural logarithm.
        wobble: strength of the outline's deformation.
        camera: amplitude of the camera's pan and zoom.
        light: maximum change of brightness, as a fraction.
        distractors: number of unannotated objects per video with the shape and texture of a target.
        occluders: number of bars and boxes per target that sweep over it.
        absence: length of one cycle of leaving (or hiding behind a wall) and returning; 0 disables absences.
        late: probability that a target (never the first one) enters after the start.
        away: fraction of each cycle spent outside the frame, at a random phase, instead of the shorter absences that
            never include the start of the video; (0, 0) disables it.
        leaves: with ``away``, probability that a target is absent at all.
        change: length of one cycle of splitting or opening a hole and closing again; 0 disables changes of topology.
        relatives: number of unannotated objects that share two of category, colour and pattern with the first target
            and move and leave like targets.
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
# Presets of SyntheticQueries: targets leave and return, and may be absent from the first frame.
QUERIES = {
    preset.name: preset
    for preset in (
        replace(QUERY, relatives=(0, 1)),
        replace(QUERY, name="query-distractor", objects=(1, 2), relatives=(2, 3)),
    )
}


# Presets of SyntheticPanoptic: all objects are annotated, and nothing else occludes them.
PANOPTIC = {
    preset.name: preset
    for preset in (
        replace(
            EASY, name="panoptic", objects=(2, 3), diameter=(0.18, 0.36), absence=30, away=(0.15, 0.35), leaves=0.3
        ),
    )
}


def find_preset(name: str) -> Preset:
    """Return the preset of a name.

    Args:
        name: name of the preset.

    Raises:
        InputError: there is no such preset.
    """
    presets = {**PRESETS, **QUERIES, **PANOPTIC}
    if name not in presets:
        raise InputError(f"preset {name!r} is unknown; choose from {', '.join(presets)}")
    return presets[name]
