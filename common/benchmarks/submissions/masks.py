"""Submissions of masks: palette PNGs, binary PNGs per object, or COCO RLE."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.rle import rle_masks
from common.errors import InputError
from common.files import atomic_path, find_child
from common.video import FrameMasks, Video
from common.video.masks import masks_from_labels, read_label_map, unique_ids, write_label_map

Size = tuple[int, int]


def write_label_maps(video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
    """Write palette PNGs ``<folder>/<video>/<frame>.png`` while passing predictions through.

    Args:
        video: the video.
        answers: its predictions.
        folder: folder of the submission.

    Yields:
        The predictions, unchanged.
    """
    for answer in answers:
        write_label_map(folder / video.id / f"{video.name(answer.frame)}.png", answer.label_map())
        yield answer


def read_masks(
    video: Video, frames: Sequence[int], folder: Path, errors: SubmissionErrors, single_object: bool = False
) -> Iterator[FrameMasks]:
    """Read the masks of a video's targets in any of these formats.

    - ``<video>/<frame>.png``: label maps;
    - ``<video>/<object>/<frame>.png``: one mask per object, non-zero pixels are set, masks may overlap; ids may have
      leading zeros;
    - ``<video>.json``, or one ``*.json`` for all videos: COCO RLE, see ``rle_masks``.

    Files of other frames are ignored.

    Args:
        video: the video. At least one of the frames must be annotated; every mask must have the annotation's size.
        frames: frame indices, ascending.
        folder: folder with the folders or JSON files of the videos.
        errors: collects files that are missing, unreadable or of another size, and ids that are no targets (void
            included). Where it does not raise, the frame or the id counts as empty.
        single_object: merge all labels into the only target.

    Yields:
        A prediction for every frame, in order, with all targets of the video.
    """
    size = annotation_size(video, frames)
    video_folder, file = find_child(folder, video.id), find_json(video.id, folder)
    if video_folder.is_dir():
        by_object = not any(video_folder.glob("*.png")) and any(path.is_dir() for path in list_visible(video_folder))
        read = object_masks if by_object else label_masks
        stream = read(video, frames, video_folder, size, errors, single_object)
    elif file:
        stream = rle_masks(video, frames, file, size, errors, single_object)
    else:
        errors.add(
            f"{video_folder}: no such folder; the submission lacks video {video.id}, write a PNG for every frame"
        )
        stream = iter([None] * len(frames))
    for frame, masks in zip(frames, stream, strict=True):
        if masks is None:
            masks = torch.zeros(len(video.targets), *size, dtype=torch.bool)
        yield FrameMasks(frame, video.targets, masks, torch.ones(len(masks)))


def label_masks(
    video: Video, frames: Sequence[int], folder: Path, size: Size, errors: SubmissionErrors, single_object: bool = False
) -> Iterator[Tensor | None]:
    """Read label maps ``<frame>.png``.

    Args:
        video: the video.
        frames: frame indices, ascending.
        folder: folder of the label maps.
        size: required (H, W).
        errors: collects faulty files.
        single_object: merge all labels into the only target.

    Yields:
        Masks bool (N, H, W) per frame; None counts as empty.
    """
    for frame in frames:
        path = find_child(folder, f"{video.name(frame)}.png")
        labels = read_png(path, size, errors)
        if labels is None:
            yield None
            continue
        if single_object:
            labels = (labels > 0).to(torch.uint8)
        masks = masks_from_labels(labels, video.targets)
        if masks.count_nonzero() < labels.count_nonzero():
            unknown = sorted(set(unique_ids(labels)) - set(video.targets))
            errors.add(unknown_id_message(path, unknown, video))
        yield masks


def object_masks(
    video: Video, frames: Sequence[int], folder: Path, size: Size, errors: SubmissionErrors, single_object: bool = False
) -> Iterator[Tensor | None]:
    """Read binary masks ``<object>/<frame>.png``.

    Args:
        video: the video.
        frames: frame indices, ascending.
        folder: folder with one folder per object.
        size: required (H, W).
        errors: collects faulty files and folders.
        single_object: merge all objects into the only target.

    Yields:
        Masks bool (N, H, W) per frame.
    """
    folders: dict[int, Path] = {}
    for path in list_visible(folder):
        target = int(path.name) if path.name.isdecimal() else None
        if not path.is_dir():
            continue
        if target is None or (target not in video.targets and not single_object):
            errors.add(unknown_id_message(path, [path.name], video))
        elif target in folders:
            errors.add(f"{path}: object {target} has the folder {folders[target].name} too; keep one of them")
        else:
            folders[target] = path
    for target in () if single_object else video.targets:
        if target not in folders:
            errors.add(f"{folder}: there is no folder for object {target}; write a PNG for every frame and object")
    for frame in frames:
        name = f"{video.name(frame)}.png"
        masks = torch.zeros(len(video.targets), *size, dtype=torch.bool)
        for target, path in folders.items():
            labels = read_png(find_child(path, name), size, errors)
            if labels is not None:
                masks[0 if single_object else video.targets.index(target)] |= labels > 0
        yield masks


def read_png(path: Path, size: Size, errors: SubmissionErrors) -> Tensor | None:
    """Read a label map, uint8 (H, W).

    Args:
        path: the file.
        size: required (H, W).
        errors: collects the error if the file is missing, unreadable or of another size.

    Returns:
        The label map, or None on error.
    """
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such file; write a PNG for every frame, of zeros where nothing is seen")
        if not path.stat().st_size:
            raise InputError(f"{path}: the file is empty (0 bytes); write it again")
        labels = read_label_map(path)
        if tuple(labels.shape) != tuple(size):
            raise InputError(size_message(path, labels.shape, size))
        return labels
    except InputError as error:
        errors.add(str(error))
        return None


def annotation_size(video: Video, frames: Sequence[int]) -> Size:
    """Return the size (H, W) of the first annotation.

    Args:
        video: the video.
        frames: frame indices to look at.

    Raises:
        InputError: none of the frames is annotated.
    """
    annotations = (video.truth[frame] for frame in frames) if video.truth is not None else ()
    for masks in annotations:
        if masks is not None:
            height, width = masks.shape[-2:]
            return height, width
    raise InputError(f"video {video.id}: it has no annotations here, so there is nothing to hold a submission against")


def find_json(id: str, folder: Path) -> Path | None:
    """Return ``<folder>/<id>.json``, or the only JSON file of a folder without subfolders; None if there is neither.

    Args:
        id: name of the video.
        folder: folder of the submission.
    """
    own = find_child(folder, f"{id}.json")
    if own.is_file():
        return own
    paths = list_visible(folder)
    files = [path for path in paths if path.suffix == ".json"]
    return files[0] if len(files) == 1 and not any(path.is_dir() for path in paths) else None


def list_visible(folder: Path) -> list[Path]:
    """Return the sorted entries of a folder, without hidden files and those that macOS adds to archives.

    Args:
        folder: the folder.
    """
    return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX")))


def unknown_id_message(where: object, ids: Sequence[object], video: Video) -> str:
    """Return the error message for ids that are not targets.

    Args:
        where: file or entry.
        ids: the unknown ids.
        video: the video.
    """
    targets = ", ".join(map(str, video.targets))
    return f"{where}: id {', '.join(map(str, ids))} is no target of video {video.id} (they are {targets}); leave it out"


def size_message(where: object, mask_size: Sequence[int], size: Size) -> str:
    """Return the error message for a mask whose size differs from the annotation.

    Args:
        where: file or entry.
        mask_size: (H, W) of the mask.
        size: (H, W) of the annotation.
    """
    mask, annotation = ("x".join(map(str, shape)) for shape in (mask_size, size))
    return (
        f"{where}: the mask is {mask} (height x width) but the annotation is {annotation}; save it at the "
        "annotation's size"
    )


def zip_folder(folder: Path) -> Path:
    """Write ``<folder>.zip`` with all files and empty folders of a folder, uncompressed.

    Args:
        folder: the folder.

    Returns:
        Path of the zip.
    """
    path = folder.with_name(f"{folder.name}.zip")
    with atomic_path(path) as part, zipfile.ZipFile(part, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file() or not any(file.iterdir()):
                archive.write(file, file.relative_to(folder))
    return path
