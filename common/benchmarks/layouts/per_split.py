"""Data sets with a folder for each split, and mostly a JSON that describes the videos of it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from common.benchmarks.layouts.per_video import FolderVOS, MaskFolder
from common.errors import InputError

OTHER_NAME = {"valid": "val", "val": "valid"}


class SplitVOS(FolderVOS):
    """Frames ``<split>/JPEGImages/<video>``, label maps ``<split>/Annotations/<video>``.

    ``valid`` and ``val`` are one split. A description, ``{"videos": {<video>: {"objects": ...}}}``, is ``meta.json``,
    ``<split>_meta.json`` or ``meta_<split>.json``, in the split's folder or beside it.
    """

    splits: tuple[str, ...] = ("valid", "train", "test")
    sparse = True

    def __init__(
        self, root: str | Path | None = None, split: str = "valid", videos: Sequence[str] | None = None
    ) -> None:
        super().__init__(root, split, videos)

    @cached_property
    def split_folder(self) -> Path:
        """Folder of the split.

        Raises:
            InputError: there is none.
        """
        places = [self.root / name for name in (self.split, OTHER_NAME.get(self.split)) if name]
        for place in places:
            if place.is_dir():
                return place
        raise InputError(f"{places[0]}: no such folder of a split of {self.name}; check root and split")

    def frames_folder(self, id: str) -> Path:
        """Where a video's frames lie."""
        return self.split_folder / "JPEGImages" / id

    def masks_folder(self, id: str) -> Path:
        """Where its label maps lie."""
        return self.split_folder / "Annotations" / id

    def listed(self) -> list[str]:
        """The described videos, in that order."""
        return list(self.described)

    @cached_property
    def description(self) -> Path:
        """File that describes the split."""
        return find_description(self.split_folder)

    @cached_property
    def described(self) -> dict[str, dict]:
        """What the description says of each video."""
        return read_description(self.description)

    def objects(self, id: str) -> dict[int, dict]:
        """What the description says of each object of a video, ids ascending.

        Raises:
            InputError: it has no objects for it.
        """
        described = self.described
        try:
            return {target: dict(said) for target, said in sorted(_numbered(described[id]["objects"]))}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError(
                f"{self.description}: video {id} has no objects by number; unpack the file again"
            ) from None


def find_description(place: Path) -> Path:
    """The JSON of a split, given its folder.

    Raises:
        InputError: there is none.
    """
    splits = [place.name, *([OTHER_NAME[place.name]] if place.name in OTHER_NAME else [])]
    named = [name for split in splits for name in (f"{split}_meta.json", f"meta_{split}.json")]
    for path in (place / "meta.json", *(folder / name for name in named for folder in (place, place.parent))):
        if path.is_file():
            return path
    raise InputError(f"{place / 'meta.json'}: no such file, nor {named[0]}; it comes with the data set")


def read_description(path: Path) -> dict[str, dict]:
    """The videos of a description.

    Raises:
        InputError: it is damaged or has no videos.
    """
    try:
        videos = json.loads(path.read_text(encoding="utf-8"))["videos"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged, or without 'videos' ({error}); unpack the data set again") from error
    if not isinstance(videos, dict) or not videos:
        raise InputError(f"{path}: 'videos' names no video; unpack the data set again")
    return videos


def first_shown(truth: MaskFolder, frames: Mapping[int, Collection[int]]) -> dict[int, int]:
    """The first of each target's frames whose label map shows it; a target that none shows is left out.

    Args:
        truth: the label maps, read only until all targets are found.
        frames: of each target, those that may be.
    """
    starts: dict[int, int] = {}
    for frame in truth.annotated:
        wanted = [target for target, own in frames.items() if target not in starts and frame in own]
        if wanted:
            shown = set(truth.labels(frame).unique().tolist())
            starts |= {target: frame for target in wanted if target in shown}
        if len(starts) == len(frames):
            break
    return {target: starts[target] for target in frames if target in starts}


def _numbered(objects: Any) -> list[tuple[int, dict]]:
    """Objects by id, from a dictionary or from a bare list of ids."""
    items = objects.items() if isinstance(objects, dict) else ((target, {}) for target in objects)
    return [(int(target), said) for target, said in items]
