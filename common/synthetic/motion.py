"""Curves over time that can be evaluated at any frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a uniform random number.

    Args:
        rng: source of randomness.
        low: lower bound.
        high: upper bound.
    """
    return float(rng.uniform(low, high))


def random_angle(rng: np.random.Generator) -> float:
    """Draw a uniform random angle in radians.

    Args:
        rng: source of randomness.
    """
    return uniform(rng, 0, 2 * math.pi)


@dataclass(frozen=True)
class Wave:
    """A smooth curve: a centre, a linear drift and a sum of sines.

    Attributes:
        centre: value at time 0 without the sines.
        sines: (amplitude, period in frames, phase in radians) of each sine.
        drift: change per frame.
    """

    centre: float = 0.0
    sines: tuple[tuple[float, float, float], ...] = ()
    drift: float = 0.0

    def __call__(self, t: float) -> float:
        """Return the value at a time.

        Args:
            t: time in frames.
        """
        return self.centre + self.drift * t + sum(a * math.sin(2 * math.pi * t / p + f) for a, p, f in self.sines)


def draw_wave(rng: np.random.Generator, centre: float, swing: float, period: tuple[float, float]) -> Wave:
    """Draw a wave of two sines, the second with a smaller amplitude and a shorter period.

    Args:
        rng: source of randomness.
        centre: centre of the wave.
        swing: maximum distance from the centre.
        period: range of the first sine's period, frames.
    """
    sines = tuple(
        (share * swing, uniform(rng, *period) * factor, random_angle(rng))
        for share, factor in ((0.75, 1.0), (0.25, 0.55))
    )
    return Wave(centre, sines)


def smooth_pulse(t: float, start: float, ramp: float, stay: float) -> float:
    """Return a smooth pulse that rises from 0 to 1, stays there, and falls back to 0.

    Args:
        t: time in frames.
        start: frame at which the rise begins.
        ramp: frames of the rise and of the fall.
        stay: frames at 1.
    """
    value = min((t - start) / ramp, (start + 2 * ramp + stay - t) / ramp)
    value = min(max(value, 0.0), 1.0)
    return value * value * (3 - 2 * value)


@dataclass(frozen=True)
class Absence:
    """An interval of absence of a target.

    Attributes:
        start: frame at which the target starts to leave; negative for one that enters late.
        ramp: frames of leaving and of returning.
        gone: frames of full absence in between.
        side: direction (x, y) of leaving, one of them -1 or 1, the other 0.
        behind: the target is hidden by a wall instead of leaving the frame.
    """

    start: float
    ramp: float
    gone: float
    side: tuple[float, float]
    behind: bool

    def amount(self, t: float) -> float:
        """Return how far the target is absent, from 0 (present) to 1 (absent).

        Args:
            t: time in frames.
        """
        return smooth_pulse(t, self.start, self.ramp, self.gone)


def draw_long_absences(
    rng: np.random.Generator, frames: int, cycle: int, away: tuple[float, float]
) -> tuple[Absence, ...]:
    """Draw one absence from the frame in every interval of about ``cycle`` frames, at a random phase.

    Args:
        rng: source of randomness.
        frames: number of frames of the video.
        cycle: approximate length of an interval, frames.
        away: minimum and maximum fraction of an interval spent fully outside, at most 0.8.
    """
    rounds = max(1, round(frames / cycle))
    stretch = frames / rounds
    ramp, phase = min(4.0, 0.1 * stretch), uniform(rng, 0, stretch) if rounds > 1 else 0.0
    absences = []
    for number in range(rounds + 1 if rounds > 1 else 1):
        gone = uniform(rng, *away) * stretch
        start = stretch * number - phase + uniform(rng, 0, stretch - 2 * ramp - gone)
        angle = rng.integers(4) * math.pi / 2
        absences.append(Absence(start, ramp, gone, (round(math.cos(angle)), round(math.sin(angle))), False))
    return tuple(absences)


def draw_absences(rng: np.random.Generator, frames: int, cycle: int, late: bool) -> tuple[Absence, ...]:
    """Draw one absence in every interval of about ``cycle`` frames, at least one; the video starts with the target.

    Args:
        rng: source of randomness.
        frames: number of frames of the video.
        cycle: approximate length of an interval, frames.
        late: the target enters after the start instead, if the video has at least 12 frames.
    """
    rounds = max(1, round(frames / cycle))
    stretch = frames / rounds
    absences = []
    for number in range(rounds):
        ramp = min(8.0, 0.25 * stretch)
        gone = uniform(rng, 0.15, 0.22) * stretch
        start = stretch * number + uniform(rng, 0.08, 0.28) * stretch
        behind = bool(rng.random() < 0.35)
        if late and number == 0 and frames >= 12:
            start, behind = -ramp, False
        angle = rng.integers(4) * math.pi / 2
        side = (round(math.cos(angle)), round(math.sin(angle)))
        absences.append(Absence(start, ramp, gone, side, behind))
    return tuple(absences)
