"""Layout with a folder per split and, for most data sets, a JSON file that describes its videos."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from common.benchmarks.layouts.per_video import FolderVOS, MaskFolder
from common.errors import InputError
from common.video.masks import unique_ids

OTHER_NAME = {"valid": "val", "val": "valid"}


class SplitVOS(FolderVOS):
    """Frames ``<split>/JPEGImages/<video>``, label maps ``<split>/Annotations/<video>``.

    ``valid`` and ``val`` are synonyms. The meta file, ``{"videos": {<video>: {"objects": ...}}}``, is ``meta.json``,
    ``<split>_meta.json`` or ``meta_<split>.json``, in the folder of the split or next to it.
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
            InputError: it does not exist.
        """
        folders = [self.root / name for name in (self.split, OTHER_NAME.get(self.split)) if name]
        for folder in folders:
            if folder.is_dir():
                return folder
        raise InputError(f"{folders[0]}: no such folder of a split of {self.name}; check root and split")

    def frames_folder(self, id: str) -> Path:
        """Return the folder of a video's frames.

        Args:
            id: name of the video.
        """
        return self.split_folder / "JPEGImages" / id

    def masks_folder(self, id: str) -> Path:
        """Return the folder of a video's label maps.

        Args:
            id: name of the video.
        """
        return self.split_folder / "Annotations" / id

    def list_videos(self) -> list[str]:
        """Return the names of the videos in the meta file, in its order."""
        return list(self.video_entries)

    @cached_property
    def meta_file(self) -> Path:
        """JSON file that describes the split."""
        return find_meta_file(self.split_folder)

    @cached_property
    def video_entries(self) -> dict[str, dict[str, Any]]:
        """Entry of each video in the meta file."""
        return read_meta_file(self.meta_file)

    def objects(self, id: str) -> dict[int, dict[str, Any]]:
        """Return the entry of each object of a video in the meta file, by ascending id.

        Args:
            id: name of the video.

        Raises:
            InputError: the meta file lists no objects for the video.
        """
        entries = self.video_entries
        try:
            return {target: dict(entry) for target, entry in sorted(_object_entries(entries[id]["objects"]))}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError(f"{self.meta_file}: video {id} has no objects by number; unpack the file again") from None


def find_meta_file(split_folder: Path) -> Path:
    """Return the path of a split's meta file.

    Args:
        split_folder: folder of the split.

    Raises:
        InputError: there is none.
    """
    split = split_folder.name
    splits = [split, *([OTHER_NAME[split]] if split in OTHER_NAME else [])]
    names = [name for split in splits for name in (f"{split}_meta.json", f"meta_{split}.json")]
    folders = (split_folder, split_folder.parent)
    for path in (split_folder / "meta.json", *(folder / name for name in names for folder in folders)):
        if path.is_file():
            return path
    raise InputError(f"{split_folder / 'meta.json'}: no such file, nor {names[0]}; it comes with the data set")


def read_meta_file(path: Path) -> dict[str, dict[str, Any]]:
    """Read the entries of the videos from a meta file.

    Args:
        path: the file.

    Raises:
        InputError: the file is damaged or lists no videos.
    """
    try:
        videos = json.loads(path.read_text(encoding="utf-8"))["videos"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged, or without 'videos' ({error}); unpack the data set again") from error
    if not isinstance(videos, dict) or not videos:
        raise InputError(f"{path}: 'videos' names no video; unpack the data set again")
    return videos


def first_visible_frames(truth: MaskFolder, frames: Mapping[int, Collection[int]]) -> dict[int, int]:
    """Return the first candidate frame of each target whose label map contains it; absent targets are omitted.

    Args:
        truth: label maps. They are read only until all targets have been found.
        frames: candidate frame indices of each target.
    """
    starts: dict[int, int] = {}
    for frame in truth.annotated:
        missing = [target for target, candidates in frames.items() if target not in starts and frame in candidates]
        if missing:
            visible = unique_ids(truth.labels(frame))
            starts |= {target: frame for target in missing if target in visible}
        if len(starts) == len(frames):
            break
    return {target: starts[target] for target in frames if target in starts}


def _object_entries(objects: dict[str, dict[str, Any]] | list[Any]) -> list[tuple[int, dict[str, Any]]]:
    """Return (id, entry) of each object, from a dictionary or from a list of ids."""
    items = objects.items() if isinstance(objects, dict) else ((target, {}) for target in objects)
    return [(int(target), entry) for target, entry in items]
