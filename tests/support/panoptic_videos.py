"""Made-up panoptic videos for the tests of VPQ and STQ."""

from __future__ import annotations

import numpy as np
import torch

from common.metrics.tubes import Segments

THINGS = (0, 2, 5)  # of 7 classes
Frame = tuple[np.ndarray, dict[int, int], frozenset[int]]


def made_up(seed: int = 11) -> list[list[tuple[Frame, Frame]]]:
    """Frames (predicted, true) of videos of 1, 3, 9 and 12 frames: ids int64 (18, 24), classes, crowds.

    Blocks of segments with void between, predicted with errors: shifted, lost, split, of another class, and identities
    swapped midway. The classes of some segments change, some segments are crowds.
    """
    rng = np.random.RandomState(seed)
    videos = []
    for length in (1, 3, 9, 12):
        layout = rng.choice([0, 300, 7, 70000, 12, 5, 6], (3, 4))
        classes = {int(id): int(rng.randint(6)) for id in rng.permutation(np.unique(layout)) if id}
        said_as = {id: kind if rng.rand() < 0.8 else int(rng.randint(7)) for id, kind in classes.items()}
        crowd = frozenset(id for id in classes if rng.rand() < 0.2)
        frames = []
        for t in range(length):
            true = np.roll(layout.repeat(6, 0).repeat(6, 1), (t // 3, t), (0, 1))
            said = np.roll(true, tuple(rng.randint(-2, 3, 2)), (0, 1))
            said[rng.rand(*said.shape) < 0.05] = 0
            if t > length / 2:
                said = np.where(said == 7, 12, np.where(said == 12, 7, said))
            if t % 4 == 3:
                said_as = {**said_as, 5: int(rng.randint(7))}
            true = np.where(rng.rand(*true.shape) < 0.02, 0, true)
            frames.append((listed(said, {**said_as, 7: 0, 12: 2}, frozenset()), listed(true, classes, crowd)))
        videos.append(frames)
    return videos


def listed(ids: np.ndarray, classes: dict[int, int], crowd: frozenset[int]) -> Frame:
    """With the classes of the segments that are there."""
    there = set(np.unique(ids).tolist())
    return ids.astype(np.int64), {id: kind for id, kind in classes.items() if id in there}, crowd & there


def segments(frame: Frame) -> Segments:
    return Segments(torch.from_numpy(frame[0]), *frame[1:])


def drawn(rows: list[str], crowd: str = "", **categories: int) -> Segments:
    """A frame written with one letter a pixel, ``.`` for void; segments are listed in the order of ``categories``."""
    ids = torch.tensor([[0 if letter == "." else ord(letter) for letter in row] for row in rows])
    return Segments(ids, {ord(name): kind for name, kind in categories.items()}, frozenset(map(ord, crowd)))
