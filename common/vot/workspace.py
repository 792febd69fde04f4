"""Sequences and results as the VOT toolkit keeps them, so that a tracker can be run inside it or beside it.

Source: behaviour of vot-toolkit 0.9.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import InputError
from common.files import write_text
from common.vot.regions import UNKNOWN, Region, read_regions, write_regions

IGNORE = "_ignore"
SUFFIXES = (".txt", ".bin")


@dataclass(frozen=True)
class VOTSequence:
    """What a sequence's folder says, without its frames.

    Attributes:
        folder: of the sequence.
        keys: lines ``key=value`` of its file ``sequence``.
        objects: ground truth of each object by its id; what is shorter than the video is unknown from there on.
        ignore: regions that do not count, for each frame; may be shorter than the video too.
    """

    folder: Path
    keys: dict[str, str]
    objects: dict[str, list[Region]]
    ignore: list[Region]

    @property
    def pattern(self) -> str:
        """Path of a frame, a format of its number, which counts from 1: ``color/%08d.jpg``."""
        return self.keys.get("channels.color", "color/%08d.jpg")

    def number(self, key: str) -> float | None:
        """A number out of the file ``sequence``, such as ``fps``, ``width``, ``height`` or ``length``."""
        value = self.keys.get(key)
        try:
            return None if value is None else float(value)
        except ValueError as error:
            raise InputError(f"{self.folder / 'sequence'}: {key}={value} is not a number; correct the line") from error

    def tagged(self, tag: str) -> list[int]:
        """Indices of the frames with a tag, one of ``<tag>.tag``'s lines of 0 and 1 for each frame.

        Raises:
            InputError: no such file, or something else in it.
        """
        path = self.folder / f"{tag}.tag"
        if not path.is_file():
            raise InputError(f"{path}: no such tag; without it nobody knows which frames count")
        lines = path.read_text(encoding="utf-8").split()
        for number, line in enumerate(lines, 1):
            if line not in ("0", "1"):
                raise InputError(f"{path}, line {number}: {line!r} must be 0 or 1")
        return [frame for frame, line in enumerate(lines) if line == "1"]


def read_sequence(folder: Path) -> VOTSequence:
    """Read a sequence's description and its ground truth: ``groundtruth_<id>.txt``, or ``groundtruth.txt`` alone.

    Objects come in the order of their ids (2 before 10). Ids that begin with ``_`` are not objects.

    Raises:
        InputError: a file is missing or wrong.
    """
    path = folder / "sequence"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot read what the sequence is ({error.strerror}); unpack it again") from error
    keys = dict(line.strip().split("=", 1) for line in lines if "=" in line)
    files = {file.stem.split("_", 1)[1]: file for file in folder.glob("groundtruth_*.txt")}
    ignore = files.get(IGNORE)
    files = {id: files[id] for id in sorted(files, key=lambda id: (id.zfill(12), id)) if not id.startswith("_")}
    files = files or {"object": folder / keys.get("groundtruth", "groundtruth.txt")}
    tracks = {id: read_regions(file) for id, file in files.items()}
    return VOTSequence(folder, keys, tracks, read_regions(ignore) if ignore else [])


# Results of one run, in one folder for each sequence.


def write_results(
    folder: Path, sequence: str, tracks: Mapping[str, Sequence[Region]], seconds: Sequence[float]
) -> None:
    """Write ``<folder>/<sequence>/<sequence>_<object>_001.txt`` and ``..._001_time.value`` for every object.

    A single object has no part of its own in the name.

    Args:
        folder: ``results/<tracker>/<experiment>`` of a workspace.
        sequence: its name.
        tracks: a region for each frame, by object id; code 1 where the object was given, 0 where it is not reported.
        seconds: time that each frame took.
    """
    for id, regions in tracks.items():
        stem = _stem(sequence, None if len(tracks) == 1 else id)
        write_regions(folder / sequence / f"{stem}.txt", regions)
        write_text(folder / sequence / f"{stem}_time.value", "".join(f"{value:.6f}\n" for value in seconds))


def read_results(folder: Path, sequence: str, id: str, single: bool, length: int) -> list[Region]:
    """The regions of one object, one for each frame, from text or ``.bin``.

    Args:
        folder: of the sequence's results.
        sequence: its name.
        id: of the object.
        single: it is the sequence's only one, whose id may be left out of the name.
        length: number of frames.

    Raises:
        InputError: no such file, something wrong in it, or a number of regions that is not that of the frames.
    """
    stems = [_stem(sequence, id), *([_stem(sequence, None)] if single else [])]
    files = [folder / f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES]
    path = next((file for file in files if file.is_file()), None)
    if path is None:
        raise InputError(f"{files[0]}: no such result (nor as .bin); every object needs one")
    regions = read_regions(path)
    if len(regions) != length:
        raise InputError(f"{path}: {len(regions)} regions for {length} frames; there must be one for each")
    return regions


def region_at(regions: Sequence[Region], frame: int) -> Region:
    """Ground truth of a frame, which is unknown beyond its end."""
    return regions[frame] if frame < len(regions) else UNKNOWN


def _stem(sequence: str, id: str | None) -> str:
    return "_".join([sequence, *([] if id is None else [id]), "001"])
