"""Regions of the VOT toolkit, the elements of its ground truth and results, in text and ``.bin`` format.

Source: behaviour of vot-toolkit 0.9.0. Unlike COCO's RLE, its mask runs go along rows inside the mask's box, starting
with background.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from common.errors import InputError
from common.files import atomic_path, write_text

VERSION = 1
LONGEST_RUN = 255 * 255
SPECIAL_TYPE, RECTANGLE_TYPE, POLYGON_TYPE, MASK_TYPE = 0, 1, 2, 3


@dataclass(frozen=True)
class Special:
    """A code instead of a region.

    Attributes:
        code: in ground truth 0 unknown, 1 absent; in results 0 not reported, 1 initialised, 2 failed.
    """

    code: int


UNKNOWN = NOT_REPORTED = Special(0)
ABSENT = INITIALISED = Special(1)


@dataclass(frozen=True)
class Rectangle:
    """A box in pixels.

    Attributes:
        x: left edge.
        y: upper edge.
        w: width.
        h: height.
    """

    x: float
    y: float
    w: float
    h: float


@dataclass(frozen=True)
class Polygon:
    """A polygon.

    Attributes:
        points: three or more corners (x, y); integers are pixel centres.
    """

    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Mask:
    """A run-length encoded mask inside a box.

    Attributes:
        x: first column of the box, which may extend beyond the frame.
        y: first row of the box.
        w: width of the box, 0 for an empty mask.
        h: height of the box.
        runs: alternating lengths of background and foreground along the rows; the first, background, may be 0.

    Raises:
        InputError: a number is negative, or the runs do not fill the box.
    """

    x: int
    y: int
    w: int
    h: int
    runs: tuple[int, ...]

    def __post_init__(self) -> None:
        if min(self.w, self.h, *self.runs) < 0 or sum(self.runs) != self.w * self.h:
            raise InputError(f"runs of {sum(self.runs)} pixels do not fill the mask's box of {self.w}x{self.h}")

    @classmethod
    def of(cls, mask: Tensor) -> Mask:
        """Encode a mask with its bounding box.

        Args:
            mask: bool (H, W).
        """
        if not mask.any():
            return cls(0, 0, 0, 0, (0,))
        rows, columns = (mask.any(along).nonzero()[:, 0] for along in (1, 0))
        (y0, y1), (x0, x1) = ((int(ends[0]), int(ends[-1]) + 1) for ends in (rows, columns))
        pixels = mask[y0:y1, x0:x1].reshape(-1).cpu().numpy()
        changes = np.flatnonzero(np.diff(pixels, prepend=False))  # positions at which a new run begins
        return cls(x0, y0, x1 - x0, y1 - y0, tuple(np.diff(changes, prepend=0, append=len(pixels)).tolist()))


Region = Special | Rectangle | Polygon | Mask


def raster(region: Region, size: Sequence[int]) -> Tensor:
    """Rasterise a region, clipped to the frame; a code gives an empty mask.

    As in the toolkit, a rectangle covers the pixels from its upper-left corner to its lower-right corner, exclusive,
    both rounded down. The corners of a polygon are rounded to pixels, and its outline is included; where a slanted
    outline passes between two pixels, the toolkit may choose the other one.

    Args:
        region: the region.
        size: (H, W) of the frame.

    Returns:
        bool (H, W).
    """
    height, width = size
    out = torch.zeros(height, width, dtype=torch.bool)
    if isinstance(region, Polygon):
        image = Image.new("1", (width, height))
        ImageDraw.Draw(image).polygon([(round(x), round(y)) for x, y in region.points], fill=1, outline=1)
        return torch.from_numpy(np.array(image))
    if isinstance(region, Rectangle):
        x0, y0, x1, y1 = map(math.floor, (region.x, region.y, region.x + region.w, region.y + region.h))
        out[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    if isinstance(region, Mask):
        values = np.arange(len(region.runs)) % 2 == 1
        box = torch.from_numpy(np.repeat(values, region.runs).reshape(region.h, region.w))
        # Clip the part of the box that lies outside the frame.
        top, left = max(-region.y, 0), max(-region.x, 0)
        clipped = box[top : max(height - region.y, 0), left : max(width - region.x, 0)]
        y, x = region.y + top, region.x + left
        out[y : y + clipped.shape[0], x : x + clipped.shape[1]] = clipped
    return out


# Text.


def parse_region(text: str) -> Region:
    """Parse a region from one line: a code, a rectangle, a polygon or a mask (``m...``). NaN is read as code 0.

    Args:
        text: the line.

    Raises:
        InputError: it is none of these.
    """
    text = text.strip()
    try:
        if text.startswith("m"):
            x, y, w, h, *runs = map(int, text[1:].split(","))
            return Mask(x, y, w, h, tuple(runs))
        numbers = [float(number) for number in text.split(",")]
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{_short(text)} is not a region") from error
    if any(map(math.isnan, numbers)):
        return UNKNOWN
    if len(numbers) == 1 and numbers[0] in (0, 1, 2):
        return Special(int(numbers[0]))
    if len(numbers) == 4 and all(map(math.isfinite, numbers)):
        return Rectangle(*numbers)
    if len(numbers) >= 6 and len(numbers) % 2 == 0 and all(map(math.isfinite, numbers)):
        return Polygon(tuple(zip(numbers[::2], numbers[1::2], strict=True)))
    raise InputError(
        f"{_short(text)} is not a region: a code (0, 1, 2), 4 numbers (rectangle), 6 or more in pairs (polygon) or m..."
    )


def format_region(region: Region) -> str:
    """Format a region as one line of text, without newline.

    Args:
        region: the region.
    """
    if isinstance(region, Special):
        return str(region.code)
    if isinstance(region, Mask):
        return "m" + ",".join(map(str, (region.x, region.y, region.w, region.h, *region.runs)))
    return ",".join(f"{number:.9g}" for number in _numbers(region))


# Files.


def read_regions(path: str | Path) -> list[Region]:
    """Read the regions of a file, one per frame, from ``.bin`` or from text with one region per line.

    Args:
        path: the file.

    Raises:
        InputError: the file is missing or contains an invalid region; the message names the file and the line (or
            region).
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read the regions ({error.strerror})") from error
    if path.suffix == ".bin":
        return _BinaryReader(path, data).regions()
    regions: list[Region] = []
    for number, line in enumerate(data.decode("utf-8", "replace").rstrip().splitlines(), 1):
        try:
            regions.append(parse_region(line))
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}") from error
    return regions


def write_regions(path: str | Path, regions: Iterable[Region]) -> None:
    """Write regions, one per frame, as ``.bin`` or as text, atomically.

    Args:
        path: the file; its suffix selects the format.
        regions: the regions.
    """
    path = Path(path)
    if path.suffix != ".bin":
        write_text(path, "".join(format_region(region) + "\n" for region in regions))
        return
    packed = [_pack(region) for region in regions]
    with atomic_path(path) as part:
        part.write_bytes(struct.pack("<hI", VERSION, len(packed)) + b"".join(packed))


def _pack(region: Region) -> bytes:
    if isinstance(region, Special):
        return struct.pack("<BI", SPECIAL_TYPE, region.code)
    if isinstance(region, Mask):
        runs = split_runs(region.runs)
        if len(runs) > 0xFFFF:
            raise InputError(f"a mask of {len(runs)} runs does not fit a .bin file (65535); write text")
        return struct.pack(f"<BhhHHH{len(runs)}H", MASK_TYPE, region.x, region.y, region.w, region.h, len(runs), *runs)
    numbers = _numbers(region)
    if isinstance(region, Rectangle):
        return struct.pack("<B4f", RECTANGLE_TYPE, *numbers)
    return struct.pack(f"<BH{len(numbers)}f", POLYGON_TYPE, len(numbers) // 2, *numbers)


def split_runs(runs: Sequence[int]) -> list[int]:
    """Split runs longer than 65025 pixels, the limit of the ``.bin`` format, with empty runs of the other kind between.

    Args:
        runs: run lengths.
    """
    out: list[int] = []
    for run in runs:
        parts = (run - 1) // LONGEST_RUN if run else 0
        out += [LONGEST_RUN, 0] * parts + [run - parts * LONGEST_RUN]
    return out


class _BinaryReader:
    """Reader of a ``.bin`` file."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path, self.data, self.offset = path, data, 0

    def regions(self) -> list[Region]:
        version, count = self._take("hI", "header")
        if version != VERSION:
            raise InputError(f"{self.path}: version {version} of region files is not known (only {VERSION})")
        return [self._region(f"region {number}") for number in range(1, count + 1)]

    def _region(self, where: str) -> Region:
        (kind,) = self._take("B", where)
        if kind == SPECIAL_TYPE:
            return Special(*self._take("I", where))
        if kind == RECTANGLE_TYPE:
            return Rectangle(*self._take("4f", where))
        if kind == POLYGON_TYPE:
            (count,) = self._take("H", where)
            numbers = self._take(f"{2 * count}f", where)
            return Polygon(tuple(zip(numbers[::2], numbers[1::2], strict=True)))
        if kind == MASK_TYPE:
            x, y, w, h, count = self._take("hhHHH", where)
            try:
                return Mask(x, y, w, h, self._take(f"{count}H", where))
            except InputError as error:
                raise InputError(f"{self.path}, {where}: {error}") from error
        raise InputError(f"{self.path}, {where}: type {kind} is not a code (0), rectangle (1), polygon (2) or mask (3)")

    def _take(self, form: str, where: str) -> tuple[Any, ...]:
        start, self.offset = self.offset, self.offset + struct.calcsize("<" + form)
        if self.offset > len(self.data):
            raise InputError(f"{self.path}, {where}: the file ends here; it is cut off, write it again")
        return struct.unpack_from("<" + form, self.data, start)


def _numbers(region: Rectangle | Polygon) -> tuple[float, ...]:
    if isinstance(region, Rectangle):
        return region.x, region.y, region.w, region.h
    return tuple(number for point in region.points for number in point)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
