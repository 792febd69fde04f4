"""Sequences and results in the format of the VOT toolkit.

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
    """Metadata and ground truth of a sequence.

    Attributes:
        folder: folder of the sequence.
        keys: lines ``key=value`` of the file ``sequence``.
        objects: ground truth of each object by id; unknown for frames beyond its end.
        ignore: region excluded from scoring per frame; may be shorter than the video.
    """

    folder: Path
    keys: dict[str, str]
    objects: dict[str, list[Region]]
    ignore: list[Region]

    @property
    def pattern(self) -> str:
        """Format of the frames' paths, with the frame number counted from 1: ``color/%08d.jpg``."""
        return self.keys.get("channels.color", "color/%08d.jpg")

    def number(self, key: str) -> float | None:
        """Return a number from the file ``sequence``, None if it is missing.

        Args:
            key: e.g. ``fps``, ``width``, ``height`` or ``length``.

        Raises:
            InputError: the value is not a number.
        """
        value = self.keys.get(key)
        try:
            return None if value is None else float(value)
        except ValueError as error:
            raise InputError(f"{self.folder / 'sequence'}: {key}={value} is not a number; correct the line") from error

    def tagged(self, tag: str) -> list[int]:
        """Return the indices of the frames with a tag.

        Args:
            tag: name of the tag; ``<tag>.tag`` has a line with 0 or 1 per frame.

        Raises:
            InputError: the file is missing or has another format.
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
    """Read the metadata and ground truth of a sequence, ``groundtruth_<id>.txt`` or a single ``groundtruth.txt``.

    Objects are in natural order of their ids (2 before 10). Ids that begin with ``_`` are not objects.

    Args:
        folder: folder of the sequence.

    Raises:
        InputError: a file is missing or invalid.
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

    The name of a single object is omitted.

    Args:
        folder: ``results/<tracker>/<experiment>`` of a workspace.
        sequence: name of the sequence.
        tracks: one region per frame, by object id; code 1 where the object is initialised, 0 where it is not reported.
        seconds: processing time of each frame.
    """
    for id, regions in tracks.items():
        stem = _stem(sequence, None if len(tracks) == 1 else id)
        write_regions(folder / sequence / f"{stem}.txt", regions)
        write_text(folder / sequence / f"{stem}_time.value", "".join(f"{value:.6f}\n" for value in seconds))


def read_results(folder: Path, sequence: str, id: str, single: bool, length: int) -> list[Region]:
    """Read the results of one object, one region per frame, from text or ``.bin``.

    Args:
        folder: folder of the sequence's results.
        sequence: name of the sequence.
        id: id of the object.
        single: it is the only object, whose id may be omitted from the name.
        length: number of frames.

    Raises:
        InputError: the file is missing or invalid, or the number of regions differs from that of the frames.
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
    """Return the region of a frame, ``UNKNOWN`` beyond the end of the ground truth.

    Args:
        regions: one region per frame.
        frame: frame index.
    """
    return regions[frame] if frame < len(regions) else UNKNOWN


def _stem(sequence: str, id: str | None) -> str:
    return "_".join([sequence, *([] if id is None else [id]), "001"])
