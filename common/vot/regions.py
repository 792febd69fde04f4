"""Regions of the VOT toolkit, as text and as ``.bin``: what its ground truth and its results are made of.

Source: behaviour of vot-toolkit 0.9.0. Its mask runs go along rows inside the mask's box and start with background, so
they are not COCO's RLE.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    """No region, but a code.

    Attributes:
        code: in ground truth 0 = unknown, 1 = absent; in results 0 = nothing reported, 1 = initialised here,
            2 = failed.
    """

    code: int


UNKNOWN = NOT_REPORTED = Special(0)
ABSENT = INITIALISED = Special(1)


@dataclass(frozen=True)
class Rectangle:
    """A box in pixels; ``x`` and ``y`` are its left upper corner."""

    x: float
    y: float
    w: float
    h: float


@dataclass(frozen=True)
class Polygon:
    """A closed line through pixel centres.

    Attributes:
        points: three or more corners (x, y); whole numbers are the centres of pixels.
    """

    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Mask:
    """A mask inside a box, kept as runs.

    Attributes:
        x: column of the box's first pixel; the box may reach beyond the frame.
        y: row of it.
        w: width of the box, 0 where nothing is marked.
        h: height of the box.
        runs: lengths along the rows, background and foreground by turns, background (which may be 0) first.
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
        """From a mask bool (H, W); its box is as small as it can be."""
        if not mask.any():
            return cls(0, 0, 0, 0, (0,))
        rows, columns = (mask.any(along).nonzero()[:, 0] for along in (1, 0))
        (y0, y1), (x0, x1) = ((int(ends[0]), int(ends[-1]) + 1) for ends in (rows, columns))
        pixels = mask[y0:y1, x0:x1].reshape(-1).cpu().numpy()
        changes = np.flatnonzero(np.diff(pixels, prepend=False))
        return cls(x0, y0, x1 - x0, y1 - y0, tuple(np.diff(changes, prepend=0, append=len(pixels)).tolist()))


Region = Special | Rectangle | Polygon | Mask


def raster(region: Region, size: Sequence[int]) -> Tensor:
    """The pixels of a region as bool (H, W), the part inside the frame; a code marks none.

    As in the toolkit a rectangle covers the pixels from its left upper corner to, but without, its right lower corner,
    both rounded down. A polygon has its corners rounded to pixels and the pixels of its outline belong to it; where a
    slanted outline runs between two pixels the toolkit may take the other one.

    Args:
        region: any.
        size: height and width of the frame.
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
        top, left = max(-region.y, 0), max(-region.x, 0)
        inside = box[top : max(height - region.y, 0), left : max(width - region.x, 0)]
        y, x = region.y + top, region.x + left
        out[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return out


# Text.


def parse_region(text: str) -> Region:
    """A region of one line of text: a code, a rectangle, a polygon or a mask (``m``). NaN stands for code 0.

    Raises:
        InputError: it is none of these; says why.
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
    """One line of text, without its end."""
    if isinstance(region, Special):
        return str(region.code)
    if isinstance(region, Mask):
        return "m" + ",".join(map(str, (region.x, region.y, region.w, region.h, *region.runs)))
    return ",".join(f"{number:.9g}" for number in _numbers(region))


# Files.


def read_regions(path: str | Path) -> list[Region]:
    """The regions of a file, one for each frame: ``.bin``, or text with one in a line.

    Raises:
        InputError: no such file, or something in it that is no region; names the file and the line (or region).
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read the regions ({error.strerror})") from error
    if path.suffix == ".bin":
        return _Bytes(path, data).regions()
    regions: list[Region] = []
    for number, line in enumerate(data.decode("utf-8", "replace").rstrip().splitlines(), 1):
        try:
            regions.append(parse_region(line))
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}") from error
    return regions


def write_regions(path: str | Path, regions: Iterable[Region]) -> None:
    """Write regions, one for each frame, as ``.bin`` or as text. The file is there whole or not at all."""
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
    """Runs of at most 65025 pixels that mean the same: an empty run of the other kind stands between the parts."""
    out: list[int] = []
    for run in runs:
        parts = (run - 1) // LONGEST_RUN if run else 0
        out += [LONGEST_RUN, 0] * parts + [run - parts * LONGEST_RUN]
    return out


class _Bytes:
    """A ``.bin`` file while it is read."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path, self.data, self.place = path, data, 0

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

    def _take(self, form: str, where: str) -> tuple:
        start, self.place = self.place, self.place + struct.calcsize("<" + form)
        if self.place > len(self.data):
            raise InputError(f"{self.path}, {where}: the file ends here; it is cut off, write it again")
        return struct.unpack_from("<" + form, self.data, start)


def _numbers(region: Rectangle | Polygon) -> tuple[float, ...]:
    if isinstance(region, Rectangle):
        return region.x, region.y, region.w, region.h
    return tuple(number for point in region.points for number in point)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
