"""Masks of VQS-4K: annotations and submissions, in which a missing file means that the target is not there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.benchmarks.faults import Faults
from common.benchmarks.plain import read_json
from common.errors import InputError
from common.video import FrameMasks, Video
from common.video.masks import read_label_map, rle_decode

TARGET = 1


class Occurrences:
    """Masks of one video, read when asked for: bool (1, H, W), empty where there is no file.

    Args:
        folder: of the label maps; need not exist where nothing is shown.
        names: file stem of each frame of the video.
        size: (H, W).

    Raises:
        InputError: a mask does not have the name of a frame.
    """

    def __init__(self, folder: Path, names: Sequence[str], size: tuple[int, int]) -> None:
        self.folder, self.names, self.size = folder, names, size
        files = {path.stem for path in folder.glob("*.png")}
        stray = sorted(files - set(names))
        if stray:
            raise InputError(f"{folder / stray[0]}.png: no frame has this name; the first frame is {names[0]}")
        self.shown = [frame for frame, name in enumerate(names) if name in files]

    def __getitem__(self, frame: int) -> Tensor:
        path = self.folder / f"{self.names[frame]}.png"
        if not path.is_file():
            return torch.zeros(1, *self.size, dtype=torch.bool)
        return read_target(path, self.size)[None]

    def check(self, occurrences: object, where: str) -> None:
        """Compare with what is said about the video.

        Raises:
            InputError: ``occurrences`` are not exactly the longest runs of frames with masks.
        """
        found = runs(self.shown)
        if occurrences != found:
            raise InputError(f"{where}: occurrences are {occurrences}, but {self.folder} has masks in frames {found}")


def runs(frames: Sequence[int]) -> list[list[int]]:
    """First and last of each longest run of neighbours in ascending numbers: 3 4 5 8 is [[3, 5], [8, 8]]."""
    if not frames:
        return []
    breaks = [(before, after) for before, after in pairwise(frames) if after != before + 1]
    starts = [frames[0], *(after for _, after in breaks)]
    return [list(run) for run in zip(starts, [*(before for before, _ in breaks), frames[-1]], strict=True)]


def read_target(path: Path, size: Sequence[int]) -> Tensor:
    """Mask bool (H, W) of label 1 in an annotation.

    Raises:
        InputError: missing or unreadable, another size, or no pixel of the target.
    """
    labels = read_label_map(path)
    _check_size(labels, size, str(path))
    if not (labels == TARGET).any():
        raise InputError(f"{path}: no pixel has label 1, the target; a frame that does not show it must have no file")
    return labels == TARGET


def read_answers(video: Video, folder: Path, split: str, faults: Faults) -> Iterator[FrameMasks]:
    """All frames of a submitted video, from ``<video>/<frame>.png`` or from ``<split>.json``."""
    size = video.attributes["height"], video.attributes["width"]
    where, given = _given(video, folder, f"{split}.json", faults)
    for name in sorted(given.keys() - set(video.names)):
        faults.report(f"{where}: {name} is not a frame of video {video.id}, whose first is {video.name(0)}")
    for frame in range(len(video)):
        mask, name = torch.zeros(size, dtype=torch.bool), video.name(frame)
        if name in given:
            try:
                mask = _predicted(given[name], size, f"{where}, frame {name}")
            except InputError as error:
                faults.report(str(error))
        yield FrameMasks(frame, (TARGET,), mask[None], torch.ones(1))


def _given(video: Video, folder: Path, table: str, faults: Faults) -> tuple[str, dict[str, Any]]:
    """Where a video's answer is, and by frame name either the file or the RLE of its mask."""
    place, path = folder / video.id, folder / table
    if place.is_dir():
        return str(place), {file.stem: file for file in place.glob("*.png")}
    if not path.is_file():
        faults.report(f"{place}: no such folder (an answer without any mask has one too), and no {table} beside it")
        return str(place), {}
    try:
        given = _read_table(path, path.stat().st_mtime_ns).get(video.id)
        if not isinstance(given, dict):
            raise InputError(f"{path}: no answer for video {video.id}; an answer without any mask is {{}}")
    except InputError as error:
        faults.report(str(error))
        given = {}
    return f"{path}, video {video.id}", given


def _predicted(given: Path | Any, size: tuple[int, int], where: str) -> Tensor:
    """Mask bool (H, W) of a label map with one label, whichever, or of an RLE."""
    if isinstance(given, Path):
        labels = read_label_map(given)
        _check_size(labels, size, str(given))
        found = labels.unique()
        if (found > 0).sum() > 1:
            raise InputError(f"{given}: labels {found.tolist()}, but there is one target; write 0 and 1")
        return labels > 0
    if not isinstance(given, dict) or given.get("size") != list(size):
        raise InputError(f'{where}: must be {{"size": [{size[0]}, {size[1]}], "counts": "..."}}')
    try:
        return rle_decode([{"counts": None, **given}])[0]
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _check_size(labels: Tensor, size: Sequence[int], where: str) -> None:
    if tuple(labels.shape) != tuple(size):
        raise InputError(f"{where}: the mask is {tuple(labels.shape)} but its frame is {tuple(size)} (height, width)")


@lru_cache(maxsize=1)
def _read_table(path: Path, changed: int) -> dict[str, Any]:
    """Answers of all videos; the file is read once until it has ``changed``."""
    videos = read_json(path, "submission").get("videos")
    if not isinstance(videos, dict):
        raise InputError(f'{path}: must be {{"videos": {{"<video>": {{"<frame>": RLE}}}}}}')
    return videos
