"""Occurrences of a target in a video."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby


def occurrences(present: Sequence[bool]) -> list[tuple[int, int]]:
    """Return the first and last frame of each maximal run of frames that contain the target, in order.

    Args:
        present: for each frame of a video, whether it contains the target.
    """
    runs, start = [], 0
    for visible, run in groupby(bool(frame) for frame in present):
        end = start + sum(1 for _ in run)
        if visible:
            runs.append((start, end - 1))
        start = end
    return runs
