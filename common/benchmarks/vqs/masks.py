"""Masks of VQS-4K: annotations and submissions, in which a missing file means that the target is absent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.masks import Size, find_json, read_png
from common.benchmarks.submissions.rle import decode_mask, read_video_entries
from common.errors import InputError
from common.video import FrameMasks, Video
from common.video.masks import read_label_map, unique_ids
from common.video.occurrences import occurrences

TARGET = 1


class Occurrences:
    """Masks of one video, read on access: bool (1, H, W), empty if there is no file.

    Args:
        folder: folder of the label maps; may be missing if the target never appears.
        names: file stem of each frame of the video.
        size: (H, W).

    Attributes:
        visible_frames: indices of the frames that contain the target, ascending.

    Raises:
        InputError: a mask has no frame.
    """

    def __init__(self, folder: Path, names: Sequence[str], size: tuple[int, int]) -> None:
        self.folder, self.names, self.size = folder, names, size
        files = {path.stem for path in folder.glob("*.png")}
        stray = sorted(files - set(names))
        if stray:
            raise InputError(f"{folder / stray[0]}.png: no frame has this name; the first frame is {names[0]}")
        self.visible_frames = [frame for frame, name in enumerate(names) if name in files]

    def __getitem__(self, frame: int) -> Tensor:
        path = self.folder / f"{self.names[frame]}.png"
        if not path.is_file():
            return torch.zeros(1, *self.size, dtype=torch.bool)
        return read_target(path, self.size)[None]

    def check(self, annotated: object, where: str) -> None:
        """Compare the masks with the occurrences in the meta file.

        Args:
            annotated: [first, last] of each occurrence.
            where: location, for error messages.

        Raises:
            InputError: they are not exactly the maximal runs of frames with masks.
        """
        visible = set(self.visible_frames)
        runs = [list(run) for run in occurrences([frame in visible for frame in range(len(self.names))])]
        if annotated != runs:
            raise InputError(f"{where}: occurrences are {annotated}, but {self.folder} has masks in frames {runs}")


def read_target(path: Path, size: Sequence[int]) -> Tensor:
    """Read the mask of label 1, bool (H, W).

    Args:
        path: file of the label map.
        size: required (H, W).

    Raises:
        InputError: the file is missing, unreadable, of another size, or has no pixel of the target.
    """
    labels = read_label_map(path)
    if tuple(labels.shape) != tuple(size):
        raise InputError(f"{path}: the mask is {tuple(labels.shape)} but its frame is {tuple(size)} (height, width)")
    if not (labels == TARGET).any():
        raise InputError(f"{path}: no pixel has label 1, the target; a frame that does not show it must have no file")
    return labels == TARGET


def read_target_masks(video: Video, folder: Path, errors: SubmissionErrors) -> Iterator[FrameMasks]:
    """Read all frames of a submitted video from ``<video>/<frame>.png`` or from COCO RLE (see ``rle_masks``).

    Args:
        video: the video, with ``height`` and ``width`` among its attributes.
        folder: folder of the submission.
        errors: collects faulty files and entries. Where it does not raise, the frame counts as empty.

    Yields:
        A prediction for every frame.
    """
    size = video.attributes["height"], video.attributes["width"]
    where, sources = _mask_sources(video, folder, errors)
    for name in sorted(sources.keys() - set(video.names)):
        errors.add(f"{where}: {name} is not a frame of video {video.id}, whose first is {video.name(0)}")
    for frame in range(len(video)):
        name, mask = video.name(frame), None
        if isinstance(sources.get(name), Path):
            mask = _png_mask(sources[name], size, errors)
        elif sources.get(name):
            mask = _rle_mask(sources[name], size, errors, f"{where}: video {video.id}, frame {name}")
        mask = torch.zeros(size, dtype=torch.bool) if mask is None else mask
        yield FrameMasks(frame, (TARGET,), mask[None], torch.ones(1))


def _mask_sources(video: Video, folder: Path, errors: SubmissionErrors) -> tuple[Path, dict[str, Any]]:
    """Return the folder or file of a video's masks, and by frame name the file of the mask or RLE by object."""
    masks, file = folder / video.id, find_json(video.id, folder)
    if masks.is_dir():
        return masks, {path.stem: path for path in masks.glob("*.png")}
    if file is None:
        errors.add(f"{masks}: no such folder; where the target is never seen write one PNG without it")
        return masks, {}
    try:
        return file, read_video_entries(file, video)[0]
    except InputError as error:
        errors.add(str(error))
        return file, {}


def _png_mask(path: Path, size: Size, errors: SubmissionErrors) -> Tensor | None:
    """Read the mask of a label map with a single label, bool (H, W); None on error."""
    labels = read_png(path, size, errors)
    if labels is not None and len(unique_ids(labels)) > 1:
        values = sorted(set(labels.flatten().tolist()))
        errors.add(f"{path}: labels {values}, but there is one target; write 0 and 1")
        return None
    return None if labels is None else labels > 0


def _rle_mask(objects: dict[str, Any], size: Size, errors: SubmissionErrors, where: str) -> Tensor | None:
    """Decode the RLE of the only object, or a bare RLE, to a mask bool (H, W); None on error."""
    if "counts" in objects:
        return decode_mask(where, objects, size, errors)
    if len(objects) > 1:
        errors.add(f"{where}: objects {', '.join(objects)}, but there is one target")
        return None
    return decode_mask(where, next(iter(objects.values())), size, errors)
