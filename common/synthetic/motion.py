"""Curves over time that are known at any frame without the frames before it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A random number as a plain float."""
    return float(rng.uniform(low, high))


def any_angle(rng: np.random.Generator) -> float:
    """A random angle, radians."""
    return uniform(rng, 0, 2 * math.pi)


@dataclass(frozen=True)
class Wave:
    """A smooth random walk within bounds: a centre, a steady drift and a few sines of unrelated periods."""

    centre: float = 0.0
    sines: tuple[tuple[float, float, float], ...] = ()
    drift: float = 0.0

    def __call__(self, t: float) -> float:
        return self.centre + self.drift * t + sum(a * math.sin(2 * math.pi * t / p + f) for a, p, f in self.sines)


def draw_wave(rng: np.random.Generator, centre: float, swing: float, period: tuple[float, float]) -> Wave:
    """A wave that stays within ``swing`` of its centre; the second sine is shorter and smaller."""
    sines = tuple(
        (share * swing, uniform(rng, *period) * pace, any_angle(rng)) for share, pace in ((0.75, 1.0), (0.25, 0.55))
    )
    return Wave(centre, sines)


def there_and_back(t: float, start: float, ramp: float, stay: float) -> float:
    """From 0 to 1 in ``ramp`` frames from ``start`` on, ``stay`` frames there, and back; smooth."""
    way = min((t - start) / ramp, (start + 2 * ramp + stay - t) / ramp)
    way = min(max(way, 0.0), 1.0)
    return way * way * (3 - 2 * way)


@dataclass(frozen=True)
class Absence:
    """One round of being away.

    Attributes:
        start: frame at which the target starts to leave; may be negative for one that enters late.
        ramp: frames of the way out and of the way back.
        gone: frames of being fully away in between.
        side: where it goes: (x, y), one of them -1 or 1, the other 0.
        behind: it hides behind a wall that slides over it, instead of leaving the frame.
    """

    start: float
    ramp: float
    gone: float
    side: tuple[float, float]
    behind: bool

    def amount(self, t: float) -> float:
        """0 = there, 1 = away, smooth in between."""
        return there_and_back(t, self.start, self.ramp, self.gone)


def draw_visits(rng: np.random.Generator, frames: int, cycle: int, away: tuple[float, float]) -> tuple[Absence, ...]:
    """Being out of the frame once in every stretch of about ``cycle`` frames; the video begins anywhere in the first.

    Args:
        away: shortest and longest part of a stretch that is spent fully outside, at most 0.8.
    """
    rounds = max(1, round(frames / cycle))
    stretch = frames / rounds
    ramp, begun = min(4.0, 0.1 * stretch), uniform(rng, 0, stretch) if rounds > 1 else 0.0
    absences = []
    for number in range(rounds + 1 if rounds > 1 else 1):
        gone = uniform(rng, *away) * stretch
        start = stretch * number - begun + uniform(rng, 0, stretch - 2 * ramp - gone)
        angle = rng.integers(4) * math.pi / 2
        absences.append(Absence(start, ramp, gone, (round(math.cos(angle)), round(math.sin(angle))), False))
    return tuple(absences)


def draw_absences(rng: np.random.Generator, frames: int, cycle: int, late: bool) -> tuple[Absence, ...]:
    """One absence in every ``cycle`` frames (at least one), each within its own stretch of the video."""
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
