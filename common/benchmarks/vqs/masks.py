"""Masks of VQS-4K: annotations and submissions, in which a missing file means that the target is not there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.masks import Size, json_of, read_png
from common.benchmarks.submissions.rle import decoded, frames_of
from common.errors import InputError
from common.video import FrameMasks, Video
from common.video.masks import read_label_map
from common.video.occurrences import occurrences

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

    def check(self, said: object, where: str) -> None:
        """Compare with what is said about the video.

        Raises:
            InputError: the occurrences that are ``said`` are not exactly the longest runs of frames with masks.
        """
        shown = set(self.shown)
        found = [list(run) for run in occurrences([frame in shown for frame in range(len(self.names))])]
        if said != found:
            raise InputError(f"{where}: occurrences are {said}, but {self.folder} has masks in frames {found}")


def read_target(path: Path, size: Sequence[int]) -> Tensor:
    """Mask bool (H, W) of label 1 in an annotation.

    Raises:
        InputError: missing or unreadable, another size, or no pixel of the target.
    """
    labels = read_label_map(path)
    if tuple(labels.shape) != tuple(size):
        raise InputError(f"{path}: the mask is {tuple(labels.shape)} but its frame is {tuple(size)} (height, width)")
    if not (labels == TARGET).any():
        raise InputError(f"{path}: no pixel has label 1, the target; a frame that does not show it must have no file")
    return labels == TARGET


def read_answers(video: Video, folder: Path, faults: SubmissionErrors) -> Iterator[FrameMasks]:
    """All frames of a submitted video, from ``<video>/<frame>.png`` or from COCO RLE (see ``rle_masks``).

    Args:
        video: with ``height`` and ``width`` among its attributes.
        folder: of the submission.
        faults: told of anything that is wrong; where that does not raise, the frame counts as empty.
    """
    size = video.attributes["height"], video.attributes["width"]
    where, given = _given(video, folder, faults)
    for name in sorted(given.keys() - set(video.names)):
        faults.report(f"{where}: {name} is not a frame of video {video.id}, whose first is {video.name(0)}")
    for frame in range(len(video)):
        name, mask = video.name(frame), None
        if isinstance(given.get(name), Path):
            mask = _png_mask(given[name], size, faults)
        elif given.get(name):
            mask = _rle_mask(given[name], size, faults, f"{where}: video {video.id}, frame {name}")
        mask = torch.zeros(size, dtype=torch.bool) if mask is None else mask
        yield FrameMasks(frame, (TARGET,), mask[None], torch.ones(1))


def _given(video: Video, folder: Path, faults: SubmissionErrors) -> tuple[Path, dict[str, Any]]:
    """Where a video's answer is, and by frame name either the file of its mask or RLE by object."""
    place, table = folder / video.id, json_of(video.id, folder)
    if place.is_dir():
        return place, {path.stem: path for path in place.glob("*.png")}
    if table is None:
        faults.report(f"{place}: no such folder; where the target is never seen write one PNG without it")
        return place, {}
    try:
        return table, frames_of(table, video)[0]
    except InputError as error:
        faults.report(str(error))
        return table, {}


def _png_mask(path: Path, size: Size, faults: SubmissionErrors) -> Tensor | None:
    """Mask bool (H, W) of a label map with one label, whichever it is."""
    labels = read_png(path, size, faults)
    if labels is not None and (labels.unique() > 0).sum() > 1:
        faults.report(f"{path}: labels {labels.unique().tolist()}, but there is one target; write 0 and 1")
        return None
    return None if labels is None else labels > 0


def _rle_mask(objects: dict[str, Any], size: Size, faults: SubmissionErrors, where: str) -> Tensor | None:
    """Mask bool (H, W) of the one object, whatever its name; the RLE may also stand there by itself."""
    if "counts" in objects:
        return decoded(where, objects, size, faults)
    if len(objects) > 1:
        faults.report(f"{where}: objects {', '.join(objects)}, but there is one target")
        return None
    return decoded(where, next(iter(objects.values())), size, faults)
