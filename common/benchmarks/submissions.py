"""Submissions in the common form: a palette PNG for every frame, in a folder for every video."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch

from common.benchmarks.faults import Faults
from common.errors import InputError
from common.files import whole_file
from common.video import FrameMasks, Video
from common.video.masks import masks_from_labels, read_label_map, write_label_map


def write_label_maps(video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
    """Write ``<folder>/<video>/<frame>.png`` while the answers pass through."""
    for answer in answers:
        write_label_map(folder / video.id / f"{video.name(answer.frame)}.png", answer.label_map())
        yield answer


def read_masks(
    video: Video, frames: Sequence[int], folder: Path, faults: Faults, any_label: bool = False
) -> Iterator[FrameMasks]:
    """Masks of some frames of a video."""
    for frame in frames:
        path = folder / video.id / f"{video.name(frame)}.png"
        try:
            labels = read_label_map(path)
        except InputError as error:
            faults.report(str(error))
            continue
        if any_label:
            labels = (labels > 0).to(torch.uint8)
        masks = masks_from_labels(labels, video.targets)
        yield FrameMasks(frame, video.targets, masks, torch.ones(len(masks)))


def zip_folder(folder: Path) -> Path:
    """``<folder>.zip`` of all that is in a folder, without compressing its images again."""
    path = folder.with_name(f"{folder.name}.zip")
    with whole_file(path) as part, zipfile.ZipFile(part, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return path
