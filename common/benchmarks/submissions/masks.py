"""Submissions as masks: written as palette PNGs, read as palette PNGs, trees of binary PNGs or COCO RLE."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.rle import rle_masks
from common.errors import InputError
from common.files import whole_file
from common.video import FrameMasks, Video
from common.video.masks import masks_from_labels, read_label_map, write_label_map

Size = tuple[int, int]


def write_label_maps(video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
    """Write ``<folder>/<video>/<frame>.png`` while the answers pass through."""
    for answer in answers:
        write_label_map(folder / video.id / f"{video.name(answer.frame)}.png", answer.label_map())
        yield answer


def read_masks(
    video: Video, frames: Sequence[int], folder: Path, faults: SubmissionErrors, any_label: bool = False
) -> Iterator[FrameMasks]:
    """Masks of the targets of a video in some of its frames, whichever of these forms the submission has.

    - ``<video>/<frame>.png``: label maps;
    - ``<video>/<object>/<frame>.png``: a mask for each object, anything but 0 is set, masks may overlap; ids may have
      zeros in front;
    - ``<video>.json``, or one ``*.json`` for all videos: COCO RLE, see ``rle_masks``.

    What is there for other frames is not looked at.

    Args:
        video: with the annotation of at least one of the frames, whose size every mask must have.
        frames: indices, ascending.
        folder: in which the videos' folders or JSON files lie.
        faults: told of anything missing, unreadable, of another size or with an id that is no target (void included);
            where that does not raise, the frame or the id counts as empty.
        any_label: the video has one target, which is everything that is marked.

    Yields:
        An answer for every frame, in order, with all targets of the video.
    """
    size = annotation_size(video, frames)
    place, file = folder / video.id, json_of(video.id, folder)
    if place.is_dir():
        by_object = not any(place.glob("*.png")) and any(path.is_dir() for path in visible(place))
        read = object_masks if by_object else label_masks
        found = read(video, frames, place, size, faults, any_label)
    elif file:
        found = rle_masks(video, frames, file, size, faults, any_label)
    else:
        faults.report(f"{place}: no such folder; the submission lacks video {video.id}, write a PNG for every frame")
        found = iter([None] * len(frames))
    for frame, masks in zip(frames, found, strict=True):
        if masks is None:
            masks = torch.zeros(len(video.targets), *size, dtype=torch.bool)
        yield FrameMasks(frame, video.targets, masks, torch.ones(len(masks)))


def label_masks(
    video: Video, frames: Sequence[int], folder: Path, size: Size, faults: SubmissionErrors, any_label: bool = False
) -> Iterator[Tensor | None]:
    """Masks bool (N, H, W) of each frame from ``<frame>.png``; None = counts as empty. See ``read_masks``."""
    for frame in frames:
        path = folder / f"{video.name(frame)}.png"
        labels = read_png(path, size, faults)
        if labels is None:
            yield None
            continue
        if any_label:
            labels = (labels > 0).to(torch.uint8)
        masks = masks_from_labels(labels, video.targets)
        if masks.count_nonzero() < labels.count_nonzero():
            surplus = sorted(set(labels.unique().tolist()) - {0, *video.targets})
            faults.report(unknown(path, surplus, video))
        yield masks


def object_masks(
    video: Video, frames: Sequence[int], folder: Path, size: Size, faults: SubmissionErrors, any_label: bool = False
) -> Iterator[Tensor | None]:
    """Masks bool (N, H, W) of each frame from ``<object>/<frame>.png``. See ``read_masks``."""
    places: dict[int, Path] = {}
    for path in visible(folder):
        target = int(path.name) if path.name.isdecimal() else None
        if not path.is_dir():
            continue
        if target is None or (target not in video.targets and not any_label):
            faults.report(unknown(path, [path.name], video))
        elif target in places:
            faults.report(f"{path}: object {target} has the folder {places[target].name} too; keep one of them")
        else:
            places[target] = path
    for target in () if any_label else video.targets:
        if target not in places:
            faults.report(f"{folder}: there is no folder for object {target}; write a PNG for every frame and object")
    for frame in frames:
        name = f"{video.name(frame)}.png"
        masks = torch.zeros(len(video.targets), *size, dtype=torch.bool)
        for target, path in places.items():
            labels = read_png(path / name, size, faults)
            if labels is not None:
                masks[0 if any_label else video.targets.index(target)] |= labels > 0
        yield masks


def read_png(path: Path, size: Size, faults: SubmissionErrors) -> Tensor | None:
    """Label map uint8 (H, W) of this size; None where that is not what the file holds, which ``faults`` is told."""
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such file; write a PNG for every frame, of zeros where nothing is seen")
        if not path.stat().st_size:
            raise InputError(f"{path}: the file is empty (0 bytes); write it again")
        labels = read_label_map(path)
        if tuple(labels.shape) != tuple(size):
            raise InputError(wrong_size(path, labels.shape, size))
        return labels
    except InputError as error:
        faults.report(str(error))
        return None


def annotation_size(video: Video, frames: Sequence[int]) -> Size:
    """(H, W) of the first annotation among some frames.

    Raises:
        InputError: there is none.
    """
    known = (video.truth[frame] for frame in frames) if video.truth is not None else ()
    for masks in known:
        if masks is not None:
            height, width = masks.shape[-2:]
            return height, width
    raise InputError(f"video {video.id}: it has no annotations here, so there is nothing to hold a submission against")


def json_of(id: str, folder: Path) -> Path | None:
    """``<video>.json``, or the only JSON file where there is no folder beside it."""
    if (folder / f"{id}.json").is_file():
        return folder / f"{id}.json"
    paths = visible(folder)
    files = [path for path in paths if path.suffix == ".json"]
    return files[0] if len(files) == 1 and not any(path.is_dir() for path in paths) else None


def visible(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without hidden files and what macOS leaves in archives."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX")))


def unknown(where: object, ids: Sequence[object], video: Video) -> str:
    """Message: ids that are no targets."""
    known = ", ".join(map(str, video.targets))
    return f"{where}: id {', '.join(map(str, ids))} is no target of video {video.id} (they are {known}); leave it out"


def wrong_size(where: object, found: Sequence[int], size: Size) -> str:
    """Message: another size than the annotation's."""
    got, want = ("x".join(map(str, shape)) for shape in (found, size))
    return f"{where}: the mask is {got} (height x width) but the annotation is {want}; save it at the annotation's size"


def zip_folder(folder: Path) -> Path:
    """``<folder>.zip`` of all that is in a folder, empty folders too, without compressing its images again."""
    path = folder.with_name(f"{folder.name}.zip")
    with whole_file(path) as part, zipfile.ZipFile(part, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file() or not any(file.iterdir()):
                archive.write(file, file.relative_to(folder))
    return path
