"""Label maps for the comparisons with official scorers, drawn from seeds with integer arithmetic.

The script ``make.py`` scores these maps with the official tools, and the tests score them with this project. Neither
the raw stream of PCG64 nor integer arithmetic depends on the platform or on the version of numpy, so both see the same
pixels. Only numpy is imported, because the official tools run in environments of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Lobes = list[tuple[int, int, int, int]]  # dy, dx, half height, half width of each ellipse

VOID = 255
VOTS_SIZE = (120, 214)
VOTS_IGNORE_BOX = (40, 90, 70, 110)  # y0, x0, y1, x1 of v04_unknown_gt
VQS_SHAPE = (36, 45, 81)
UNKNOWN_FRAMES = (3, 7, 9)  # of v04_unknown_gt


class Integers:
    """Integers from the raw stream of PCG64."""

    def __init__(self, seed: int) -> None:
        self.bits = np.random.PCG64(seed)

    def between(self, low: int, high: int) -> int:
        """Return an integer in [low, high)."""
        return low + int(self.bits.random_raw() % (high - low))

    def mask(self, shape: tuple[int, ...], percent: int) -> np.ndarray:
        """Return a boolean array with about this percentage of True."""
        return (self.bits.random_raw(int(np.prod(shape))) % 100 < percent).reshape(shape)


@dataclass
class Case:
    """Annotated and predicted label maps, uint8 (T, H, W) each."""

    gt: np.ndarray
    pred: np.ndarray
    description: str

    @property
    def sha256(self) -> str:
        """Checksum of both arrays."""
        return hashlib.sha256(self.gt.tobytes() + self.pred.tobytes()).hexdigest()


def blob(seed: int, radius: int) -> Lobes:
    """Return a main ellipse and three smaller ones around it."""
    draw = Integers(seed)
    lobes = [(0, 0, radius, radius + draw.between(0, radius))]
    for _ in range(3):
        dy, dx = (draw.between(-radius, radius + 1) for _ in range(2))
        lobes.append((dy, dx, draw.between(2, radius + 1), draw.between(2, radius + 1)))
    return lobes


def render(lobes: Lobes, size: tuple[int, int], y: int, x: int, grow: int = 0) -> np.ndarray:
    """Return the mask (H, W) of a blob at (y, x); it may reach beyond the frame."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    mask = np.zeros(size, bool)
    for dy, dx, ry, rx in lobes:
        ry, rx = ry + grow, rx + grow
        mask |= (rows - y - dy) ** 2 * rx**2 + (columns - x - dx) ** 2 * ry**2 <= ry**2 * rx**2
    return mask


def track(
    seed: int, frames: int, size: tuple[int, int], radius: int, start: tuple[int, int], step: tuple[int, int]
) -> np.ndarray:
    """Return masks (T, H, W) of a blob that moves by ``step`` pixels (y, x) a frame and pulsates."""
    lobes = blob(seed, radius)
    return np.stack([render(lobes, size, start[0] + t * step[0], start[1] + t * step[1], t % 3) for t in range(frames)])


def shift(masks: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """Move masks (..., H, W); pixels that leave the frame are lost."""
    out = np.zeros_like(masks)
    height, width = masks.shape[-2:]
    rows, columns = (slice(max(0, d), n + min(0, d)) for d, n in ((dy, height), (dx, width)))
    from_rows, from_columns = (slice(max(0, -d), n + min(0, -d)) for d, n in ((dy, height), (dx, width)))
    out[..., rows, columns] = masks[..., from_rows, from_columns]
    return out


def dilate(masks: np.ndarray, radius: int) -> np.ndarray:
    """Dilate masks (..., H, W) with a disk."""
    side = range(-radius, radius + 1)
    offsets = [(dy, dx) for dy in side for dx in side if dy**2 + dx**2 <= radius**2]
    return np.any([shift(masks, *offset) for offset in offsets], axis=0)


def erode(masks: np.ndarray, radius: int) -> np.ndarray:
    """Erode masks (..., H, W) with a disk; the outside of the frame counts as foreground."""
    return ~dilate(~masks, radius)


def labels(*objects: np.ndarray) -> np.ndarray:
    """Return label maps uint8 of masks (T, H, W) with ids 1, 2, ...; later objects cover earlier ones."""
    out = np.zeros(objects[0].shape, np.uint8)
    for number, masks in enumerate(objects, 1):
        out[masks] = number
    return out


def blank(masks: np.ndarray, *frames: int) -> np.ndarray:
    """Return a copy of masks (T, H, W) that is empty in the given frames."""
    out = masks.copy()
    out[list(frames)] = False
    return out


# Video object segmentation.


def _shifted() -> Case:
    gt = track(1, 13, (160, 285), 24, (70, 60), (1, 6))
    return Case(labels(gt), labels(shift(gt, -3, 5)), "prediction moved by dy=-3, dx=+5")


def _dilated() -> Case:
    gt = track(2, 6, (480, 854), 70, (220, 300), (4, 30))
    return Case(labels(gt), labels(dilate(gt, 5)), "prediction dilated with a disk of radius 5")


def _dropped() -> Case:
    gt = track(3, 12, (135, 240), 20, (60, 40), (2, 9))
    return Case(labels(gt), labels(blank(erode(gt, 1), 4, 5, 8)), "prediction eroded; frames 4, 5 and 8 empty")


def _noisy() -> Case:
    gt = track(4, 11, (121, 213), 22, (60, 50), (1, 8))
    return Case(labels(gt), labels(gt ^ Integers(40).mask(gt.shape, 1)), "each pixel flipped with probability 0.01")


def _empty() -> Case:
    gt = track(5, 10, (97, 131), 18, (4, 3), (3, 7))
    gt[6] = True
    return Case(labels(gt), labels(blank(gt, *range(10))), "nothing predicted; touches the top left, fills frame 6")


def _perfect() -> Case:
    gt = track(6, 10, (97, 131), 20, (50, 70), (4, 9))
    return Case(labels(gt), labels(gt), "prediction equal to the annotation; leaves at the bottom right")


def _swapped() -> Case:
    one, two = (track(seed, 12, (135, 240), 22, (60, x), (1, 3)) for seed, x in ((7, 50), (70, 110)))
    gt = labels(one, two)
    pred = gt.copy()
    pred[5:9] = np.array([0, 2, 1], np.uint8)[gt[5:9]]
    return Case(gt, pred, "ids 1 and 2 exchanged in frames 5 to 8")


def _absent() -> Case:
    one, two, three = (
        track(seed, 16, (135, 240), 17, start, (1, 2))
        for seed, start in ((8, (35, 40)), (80, (70, 120)), (81, (50, 180)))
    )
    gt = labels(one, blank(two, *range(6, 11)), blank(three, *range(12, 16)))
    seen = shift(blank(two, 6, 9, 10, 13), 2, -2), shift(blank(three, 12, 14, 15), 1, 3)
    pred = labels(np.zeros_like(one), *seen)
    return Case(gt, pred, "id 1 never predicted; 2 absent in 6-10, predicted in 7, 8, lost in 13; 3 absent from 12")


def _late() -> Case:
    one, two = (track(seed, 12, (121, 213), 18, start, (1, 5)) for seed, start in ((9, (40, 40)), (90, (75, 90))))
    gt = labels(one, blank(two, *range(4)))
    return Case(gt, labels(dilate(one, 2), blank(erode(two, 2), *range(5))), "id 2 appears in frame 4, is found in 5")


def _void() -> Case:
    masks = track(10, 10, (135, 240), 22, (60, 50), (2, 8))
    gt = labels(masks)
    gt[dilate(masks, 2) & ~erode(masks, 2)] = VOID
    return Case(gt, labels(shift(masks, 0, 3)), "a band around the outline is void; prediction moved by dx=+3")


def _spurious() -> Case:
    gt = labels(track(11, 10, (121, 213), 20, (50, 50), (2, 7)))
    pred = gt.copy()
    pred[2:7, 90:110, 150:190] = 3
    return Case(gt, pred, "id 1 perfect; id 3, which is not annotated, in frames 2 to 6")


def _long() -> Case:
    gt = np.stack([render(blob(12, 9), (45, 81), 22, 20 + abs(t % 80 - 40), t % 3) for t in range(300)])
    return Case(labels(gt), labels(np.stack([shift(m, 0, t // 40) for t, m in enumerate(gt)])), "drifts for 300 frames")


def _small() -> Case:
    gt = track(13, 7, (480, 854), 8, (200, 300), (5, 11))
    return Case(labels(gt), labels(shift(gt, 4, 5)), "a small object on a large frame; moved by dy=+4, dx=+5")


def _returning() -> Case:
    one, two = (track(seed, 14, (121, 213), 18, start, (1, 4)) for seed, start in ((14, (40, 40)), (140, (80, 100))))
    gt = labels(one, blank(two, 0, 1, 6, 7, 12, 13))
    pred = labels(one, blank(two, 0, 6, 7, 9, 12))
    pred[(pred == 0) & dilate(pred == 2, 1)] = 2
    return Case(gt, pred, "id 1 perfect; id 2 absent in 0, 1, 6, 7, 12, 13, predicted in 1 and 13, lost in 9")


VOS: dict[str, Callable[[], Case]] = {
    "p01_shift": _shifted,
    "p02_dilate480": _dilated,
    "p03_drop": _dropped,
    "p04_noise": _noisy,
    "p05_empty": _empty,
    "p06_perfect": _perfect,
    "p07_two_swap": _swapped,
    "p08_three_absent": _absent,
    "p09_late_object": _late,
    "p10_void_band": _void,
    "p11_spurious_id": _spurious,
    "p12_long300": _long,
    "p13_small_object": _small,
    "p14_vanish_return": _returning,
}


# VOTS: no mask is one pixel wide or high and none touches the first row or column (see ``toolkit_boxes``).


def _vots_track(seed: int, frames: int, start: tuple[int, int], step: tuple[int, int]) -> np.ndarray:
    return track(seed, frames, VOTS_SIZE, 13, start, step)


def _vots_single() -> Case:
    gt = _vots_track(21, 13, (50, 50), (1, 6))
    return Case(labels(gt), labels(shift(gt, 3, -4)), "prediction moved by dy=+3, dx=-4")


def _vots_swapped() -> Case:
    gt = labels(*(_vots_track(seed, 15, (55, x), (0, 4)) for seed, x in ((22, 50), (220, 90))))
    pred = gt.copy()
    pred[5:9] = np.array([0, 2, 1], np.uint8)[gt[5:9]]
    return Case(gt, pred, "ids 1 and 2 exchanged in frames 5 to 8")


def _vots_absent() -> Case:
    one, two, three = (
        _vots_track(seed, 40, start, (0, 2)) for seed, start in ((23, (40, 50)), (230, (80, 90)), (231, (40, 120)))
    )
    gt = labels(one, blank(two, *range(20, 35)), blank(three, *range(10, 15)))
    seen = (
        dilate(blank(one, 5, 6, 7, 8, 9), 1),
        shift(blank(two, 3, 4, *range(20, 31)), 1, 2),
        blank(three, 11, 12, 13, 14),
    )
    pred = labels(seen[0], seen[1], shift(seen[2], 0, 3))
    pred[30:33][pred[30:33] == 1] = 0
    pred[30:33, 100:110, 5:20] = 1
    return Case(gt, pred, "id 2 absent in 20-34, predicted in 31-34; id 3 absent in 10-14; id 1 lost in 5-9 and 30-32")


def _vots_unknown() -> Case:
    gt = _vots_track(24, 18, (55, 60), (0, 4))
    return Case(labels(gt), labels(blank(erode(gt, 1), 5, 7)), "annotation unknown in 3, 7, 9; a box is ignored")


VOTS: dict[str, Callable[[], Case]] = {
    "v01_single_shift": _vots_single,
    "v02_two_swap": _vots_swapped,
    "v03_three_absent": _vots_absent,
    "v04_unknown_gt": _vots_unknown,
}

# Pairs of regions one pixel wide or high, as lines of a result file, on frames of 20 x 30 pixels.
VOTS_THIN = {
    "both_special": ("0", "1"),
    "empty_masks": ("m0,0,30,20,600", "m0,0,30,20,600"),
    "same_1px": ("m5,5,1,1,0,1", "m5,5,1,1,0,1"),
    "apart_1px_same_row": ("m5,5,1,1,0,1", "m9,5,1,1,0,1"),
    "apart_1px_diag": ("m5,5,1,1,0,1", "m9,7,1,1,0,1"),
    "line_1px_high_vs_shifted": ("m3,5,9,1,0,9", "m8,5,12,1,0,12"),
    "column0_same": ("m0,3,1,4,0,4", "m0,3,1,4,0,4"),
    "block_vs_special": ("m4,4,5,5,0,25", "0"),
    "row0_col0_pixel_vs_block": ("m0,0,1,1,0,1", "m0,0,2,2,0,4"),
    "block_partial": ("m4,4,5,5,0,25", "m5,6,4,6,0,24"),
}


# Visual query segmentation: one response track a video.


def vqs_case(number: int) -> Case:
    """Return masks (T, H, W) of one of ten videos: tracks found in part, too early, too late, moved or not at all."""
    frames, size = VQS_SHAPE[0], VQS_SHAPE[1:]
    draw = Integers(300 + number)
    masks = track(310 + number, frames, size, 5 + number % 5, (20, 15), (0, 1))
    start, length = draw.between(3, 18), draw.between(6, 14)
    early, late, moved = (draw.between(-4, 5), draw.between(-4, 5), draw.between(0, 6)) if number else (0, 0, 0)
    gt, pred = np.zeros_like(masks), np.zeros_like(masks)
    gt[start : start + length] = masks[start : start + length]
    first, last = start + early, start + length + late
    pred[first:last] = shift(masks[first:last], moved // 2, moved)
    if number == 9:
        pred[:] = False
        pred[0] = masks[0]
    return Case(
        gt.astype(np.uint8), pred.astype(np.uint8), f"starts {early} and ends {late} frames off, moved by {moved}"
    )


VQS = tuple(f"s{number:02d}" for number in range(10))
