"""Check the files of one video: a folder of frames, and a folder of label maps or one per object."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from common.benchmarks.layouts.per_video import FolderVOS
from common.benchmarks.sav import SAV
from common.errors import InputError
from common.video import VOID, Video, read_image, read_label_map
from common.video.images import SUFFIXES

Size = tuple[int, ...]


@dataclass(frozen=True)
class Problem:
    """A problem with one file or frame.

    Attributes:
        kind: category for counting, e.g. ``missing frame``.
        text: ``<file or frame>: <description>``.
    """

    kind: str
    text: str

    @property
    def culprit(self) -> str:
        """File or frame that has the problem."""
        return self.text.split(": ")[0]


@dataclass
class Scan:
    """Result of scanning the files of one video.

    Attributes:
        frames: number of frames.
        annotated: number of annotated frames.
        problems: in the order of discovery.
    """

    frames: int = 0
    annotated: int = 0
    problems: list[Problem] = field(default_factory=list)

    def add(self, kind: str, culprit: object, description: str) -> None:
        """Add a problem.

        Args:
            kind: category for counting.
            culprit: file or frame.
            description: what is wrong with it.
        """
        self.problems.append(Problem(kind, f"{culprit}: {description}"))


def scan_files(benchmark: FolderVOS | SAV, id: str, video: Video | None) -> Scan:
    """Decode every file of a video and collect all problems.

    Args:
        benchmark: provides the paths of the files.
        id: name of the video.
        video: the video, if it could be opened; its targets are compared with the annotations.
    """
    scan = Scan()
    frames, masks = benchmark.frames_folder(id), benchmark.masks_folder(id)
    sizes = _scan_frames(scan, frames, isinstance(benchmark, FolderVOS) and benchmark.gaps)
    if not masks.is_dir():
        scan.add("missing annotation", masks, "no such folder of annotations")
        return scan
    if isinstance(benchmark, SAV):
        annotated: set[str] = set()
        for folder in sorted(path for path in masks.iterdir() if path.is_dir()):
            ids = _scan_masks(scan, folder, sizes)
            annotated |= ids.keys()
            if not any(set().union(*ids.values())):
                scan.add("absent id", folder, "the object never appears")
    else:
        ids = _scan_masks(scan, masks, sizes)
        annotated = set(ids)
        hidden = len(ids) <= 1 if video is None else video.truth is None
        for name in sizes if not (benchmark.sparse or hidden) else ():
            if name not in ids and not (masks / f"{name}.png").is_file():
                scan.add("missing annotation", masks / f"{name}.png", f"frame {name} has no annotation")
        if video is not None:
            _check_ids(scan, masks, ids, video.targets, benchmark.single_object)
    scan.annotated = len(annotated)
    scan.frames = len(sizes) or scan.annotated
    return scan


def _scan_frames(scan: Scan, folder: Path, gaps: bool) -> dict[str, Size | None]:
    """Return the size of each frame by name, None if it does not decode; empty if the data set has no frames."""
    if not folder.parent.is_dir():
        scan.add("missing frame", folder.parent, "no such folder of frames; submissions can be scored, methods not run")
        return {}
    files = [path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
    if not files:
        scan.add("missing video", folder, "no frames in it" if folder.is_dir() else "no such folder of frames")
    sizes: dict[str, Size | None] = {}
    first_size: Size | None = None
    for path in sorted(files):
        if path.stem in sizes:
            scan.add("bad frame", path, "another file of this folder has the same name")
            continue
        try:
            size = sizes[path.stem] = tuple(read_image(path).shape[:2])
        except InputError as error:
            scan.problems.append(Problem("bad frame", str(error)))
            sizes[path.stem] = None
            continue
        first_size = first_size or size
        if size != first_size:
            scan.add("wrong size", path, f"the frame is {_by(size)} but the first one is {_by(first_size)}")
    for name in [] if gaps else missing_names(list(sizes)):
        scan.add("missing frame", folder, f"frame {name} is missing")
    return sizes


def _scan_masks(scan: Scan, folder: Path, sizes: dict[str, Size | None]) -> dict[str, set[int]]:
    """Return the ids in each label map by name, without background; files that do not decode are omitted."""
    ids = {}
    for path in sorted(folder.glob("*.png")):
        if sizes and path.stem not in sizes:
            scan.add("stray annotation", path, "no frame has this name")
            continue
        try:
            labels = read_label_map(path)
        except InputError as error:
            scan.problems.append(Problem("bad annotation", str(error)))
            continue
        frame = sizes.get(path.stem)
        if frame and frame != tuple(labels.shape):
            scan.add("wrong size", path, f"the annotation is {_by(labels.shape)} but its frame is {_by(frame)}")
        ids[path.stem] = set(labels.flatten().bincount().nonzero().flatten().tolist()) - {0}
    if not ids:
        scan.add("missing annotation", folder, "no annotation that can be used")
    return ids


def _check_ids(
    scan: Scan, folder: Path, ids: dict[str, set[int]], targets: tuple[int, ...], single_object: bool
) -> None:
    """Compare the ids in the annotations with the targets."""
    all_ids = set().union(*ids.values())
    if single_object:
        all_ids = {1} if all_ids else set()
    for target in sorted(all_ids - {*targets, VOID}):
        names = [name for name in ids if target in ids[name]]
        listing = ", ".join(map(str, targets))
        text = f"id {target} is in {len(names)} annotations but is no target (they are {listing})"
        scan.add("unknown id", folder / f"{names[0]}.png", text)
    for target in sorted(set(targets) - all_ids):
        scan.add("absent id", folder, f"object {target} never appears")


def missing_names(names: list[str]) -> list[str]:
    """Return the names missing from an evenly numbered sequence, neighbours joined as ``00004 to 00007``.

    Args:
        names: file stems. Names that do not share one prefix before the number are not checked.
    """
    parts = [re.fullmatch(r"(.*?)(\d+)", name) for name in names]
    if len({part and part[1] for part in parts}) != 1 or parts[0] is None:
        return []
    prefix, digits = parts[0][1], len(parts[0][2])
    numbers = sorted(int(part[2]) for part in parts if part)
    # The smallest step is the regular one: data sets number every 1st, 5th, ... frame.
    step = min((after - before for before, after in pairwise(numbers)), default=0)
    gaps = [(before + step, after - step) for before, after in pairwise(numbers) if after - before > step > 0]
    ends = [[f"{prefix}{number:0{digits}d}" for number in dict.fromkeys(gap)] for gap in gaps]
    return [" to ".join(pair) for pair in ends]


def _by(size: Size) -> str:
    return "x".join(map(str, size))
