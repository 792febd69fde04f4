"""When a target is seen: runs of frames."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby


def occurrences(present: Sequence[bool]) -> list[tuple[int, int]]:
    """First and last frame of each unbroken run of frames that show the target, in order.

    Args:
        present: for each frame of a video, whether it shows the target.
    """
    runs, start = [], 0
    for shown, run in groupby(bool(frame) for frame in present):
        end = start + sum(1 for _ in run)
        if shown:
            runs.append((start, end - 1))
        start = end
    return runs
