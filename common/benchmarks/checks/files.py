"""What is wrong with the files of one video: frames in a folder, label maps in another or in one for each object."""

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
    """One line about one culprit.

    Attributes:
        kind: what the problems are counted by, e.g. ``missing frame``.
        text: ``<file or frame>: <what is wrong>``.
    """

    kind: str
    text: str

    @property
    def culprit(self) -> str:
        """The file or frame."""
        return self.text.split(": ")[0]


@dataclass
class Scan:
    """What was found: number of frames, frames with an annotation, and problems in the order they were found."""

    frames: int = 0
    annotated: int = 0
    problems: list[Problem] = field(default_factory=list)

    def add(self, kind: str, where: object, what: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(kind, f"{where}: {what}"))


def scan(benchmark: FolderVOS | SAV, id: str, video: Video | None) -> Scan:
    """Decode every file of a video, whatever is wrong with the others.

    Args:
        benchmark: says where the files are.
        id: of the video.
        video: if it could be opened: its targets are held against the annotations.
    """
    found = Scan()
    frames, masks = benchmark.frames_folder(id), benchmark.masks_folder(id)
    sizes = _frames(found, frames, isinstance(benchmark, FolderVOS) and benchmark.gaps)
    if not masks.is_dir():
        found.add("missing annotation", masks, "no such folder of annotations")
        return found
    if isinstance(benchmark, SAV):
        annotated: set[str] = set()
        for folder in sorted(path for path in masks.iterdir() if path.is_dir()):
            ids = _masks(found, folder, sizes)
            annotated |= ids.keys()
            if not any(set().union(*ids.values())):
                found.add("absent id", folder, "the object never appears")
    else:
        ids = _masks(found, masks, sizes)
        annotated = set(ids)
        hidden = len(ids) <= 1 if video is None else video.truth is None
        for name in sizes if not (benchmark.sparse or hidden) else ():
            if name not in ids and not (masks / f"{name}.png").is_file():
                found.add("missing annotation", masks / f"{name}.png", f"frame {name} has no annotation")
        if video is not None:
            _ids(found, masks, ids, video.targets, benchmark.any_label)
    found.annotated = len(annotated)
    found.frames = len(sizes) or found.annotated
    return found


def _frames(found: Scan, folder: Path, gaps: bool) -> dict[str, Size | None]:
    """Size of each frame by name; None where it does not decode. Empty where no video's frames are here."""
    if not folder.parent.is_dir():
        found.add(
            "missing frame", folder.parent, "no such folder of frames; submissions can be scored, methods not run"
        )
        return {}
    files = [path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
    if not files:
        found.add("missing video", folder, "no frames in it" if folder.is_dir() else "no such folder of frames")
    sizes: dict[str, Size | None] = {}
    usual: Size | None = None
    for path in sorted(files):
        if path.stem in sizes:
            found.add("bad frame", path, "another file of this folder has the same name")
            continue
        try:
            size = sizes[path.stem] = tuple(read_image(path).shape[:2])
        except InputError as error:
            found.problems.append(Problem("bad frame", str(error)))
            sizes[path.stem] = None
            continue
        usual = usual or size
        if size != usual:
            found.add("wrong size", path, f"the frame is {_by(size)} but the first one is {_by(usual)}")
    for name in [] if gaps else holes(list(sizes)):
        found.add("missing frame", folder, f"frame {name} is missing")
    return sizes


def _masks(found: Scan, folder: Path, sizes: dict[str, Size | None]) -> dict[str, set[int]]:
    """The ids in each label map by name, void left out; those that do not decode are left out too."""
    ids = {}
    for path in sorted(folder.glob("*.png")):
        if sizes and path.stem not in sizes:
            found.add("stray annotation", path, "no frame has this name")
            continue
        try:
            labels = read_label_map(path)
        except InputError as error:
            found.problems.append(Problem("bad annotation", str(error)))
            continue
        frame = sizes.get(path.stem)
        if frame and frame != tuple(labels.shape):
            found.add("wrong size", path, f"the annotation is {_by(labels.shape)} but its frame is {_by(frame)}")
        ids[path.stem] = set(labels.flatten().bincount().nonzero().flatten().tolist()) - {0}
    if not ids:
        found.add("missing annotation", folder, "no annotation that can be used")
    return ids


def _ids(found: Scan, folder: Path, ids: dict[str, set[int]], targets: tuple[int, ...], any_label: bool) -> None:
    """Hold the ids in the annotations against the targets."""
    everywhere = set().union(*ids.values())
    if any_label:
        everywhere = {1} if everywhere else set()
    for target in sorted(everywhere - {*targets, VOID}):
        names = [name for name in ids if target in ids[name]]
        known = ", ".join(map(str, targets))
        text = f"id {target} is in {len(names)} annotations but is no target (they are {known})"
        found.add("unknown id", folder / f"{names[0]}.png", text)
    for target in sorted(set(targets) - everywhere):
        found.add("absent id", folder, f"object {target} never appears")


def holes(names: list[str]) -> list[str]:
    """What evenly numbered names lack, a run of neighbours as ``00004 to 00007``; nothing for other names."""
    parts = [re.fullmatch(r"(.*?)(\d+)", name) for name in names]
    if len({part and part[1] for part in parts}) != 1 or parts[0] is None:
        return []
    prefix, digits = parts[0][1], len(parts[0][2])
    numbers = sorted(int(part[2]) for part in parts if part)
    usual = min((after - before for before, after in pairwise(numbers)), default=0)
    gaps = [(before + usual, after - usual) for before, after in pairwise(numbers) if after - before > usual > 0]
    named = [[f"{prefix}{number:0{digits}d}" for number in dict.fromkeys((first, last))] for first, last in gaps]
    return [" to ".join(ends) for ends in named]


def _by(size: Size) -> str:
    return "x".join(map(str, size))
