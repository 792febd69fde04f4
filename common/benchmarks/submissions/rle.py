"""Submissions of COCO RLE in JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from common.benchmarks.submissions.errors import SubmissionErrors
from common.errors import InputError
from common.video.masks import rle_decode

if TYPE_CHECKING:
    from common.video import Video

Frames = dict[str, dict[str, Any]]  # frame -> object -> RLE


def rle_masks(
    video: Video,
    frames: Sequence[int],
    path: Path,
    size: tuple[int, int],
    errors: SubmissionErrors,
    single_object: bool = False,
) -> Iterator[Tensor | None]:
    """Read the masks of a video from COCO RLE. Masks may overlap.

    A file of one video (``<video>.json``) has one of these two forms, where an RLE is COCO's compressed
    ``{"size": [H, W], "counts": "..."}``::

        {"<frame>": {"<object>": RLE, ...}, ...}
        [{"frame": "<frame>", "object": <object>, "segmentation": RLE}, ...]

    A file of all videos is ``{"videos": {"<video>": ...}}`` with the first form for each video, or a list with
    ``"video": "<video>"`` in every entry. ``target`` is accepted for ``object``. Frames are identified by the stems of
    their files. In the first form a frame without masks is ``{}``, and a frame without a key is an error; in a list a
    frame without masks has no entry.

    Args:
        video: the video.
        frames: frame indices, ascending.
        path: the JSON file.
        size: required (H, W).
        errors: collects faults of the file.
        single_object: merge all objects into the only target.

    Yields:
        Masks bool (N, H, W) per frame; None counts as empty.
    """
    try:
        entries, is_list = read_video_entries(path, video)
    except InputError as error:
        errors.add(str(error))
        yield from [None] * len(frames)
        return
    for frame in frames:
        name = video.name(frame)
        if name not in entries and not is_list:
            errors.add(f"{path}: video {video.id}, frame {name} is missing; write {{}} where nothing is seen")
        masks = torch.zeros(len(video.targets), *size, dtype=torch.bool)
        for key, rle in entries.get(name, {}).items():
            where = f"{path}: video {video.id}, frame {name}, object {key}"
            target = int(key) if key.isdecimal() else None
            if not single_object and target not in video.targets:
                targets = ", ".join(map(str, video.targets))
                errors.add(f"{where}: no target of the video (they are {targets}); leave it out")
                continue
            mask = decode_mask(where, rle, size, errors)
            if mask is not None:
                masks[0 if single_object else video.targets.index(target)] |= mask
        yield masks


def decode_mask(where: str, rle: object, size: tuple[int, int], errors: SubmissionErrors) -> Tensor | None:
    """Decode one RLE to a mask bool (H, W).

    Args:
        where: entry, for error messages.
        rle: the RLE as read from JSON.
        size: required (H, W).
        errors: collects the error if the RLE is invalid or of another size.

    Returns:
        The mask, or None on error.
    """
    if not (isinstance(rle, Mapping) and isinstance(rle.get("size"), list) and isinstance(rle.get("counts"), str)):
        errors.add(f'{where}: no compressed COCO RLE; write {{"size": [height, width], "counts": "..."}}')
        return None
    if rle["size"] != list(size):
        mask, annotation = ("x".join(map(str, shape)) for shape in (rle["size"], size))
        errors.add(f"{where}: the mask is {mask} (height x width) but the annotation is {annotation}")
        return None
    try:
        return rle_decode([dict(rle)])[0]
    except InputError as error:
        errors.add(f"{where}: {error}")
        return None


def read_video_entries(path: Path, video: Video) -> tuple[Frames, bool]:
    """Read the entries of one video.

    Args:
        path: the JSON file.
        video: the video.

    Returns:
        RLE by frame name and object, and whether the file is a list, in which frames may be absent.

    Raises:
        InputError: the file is damaged, or the video is not in it.
    """
    data = load_json(path)
    single_video = path.stem == video.id
    if isinstance(data, list):
        return _entries_by_frame(path, data, video, single_video), True
    frames = data
    if not single_video:
        videos = data.get("videos")
        if not isinstance(videos, dict):
            raise InputError(f'{path}: must be {{"videos": {{"<video>": ...}}}} or a list; see docs/benchmarks.md')
        if video.id not in videos:
            raise InputError(f"{path}: video {video.id} is missing; the file has {', '.join(list(videos)[:3])}")
        frames = videos[video.id]
    if not isinstance(frames, dict) or not all(isinstance(objects, dict) for objects in frames.values()):
        raise InputError(f"{path}: video {video.id}: not frames with objects; see docs/benchmarks.md for the form")
    return frames, False


def _entries_by_frame(path: Path, entries: list[Any], video: Video, single_video: bool) -> Frames:
    """Group the entries of a list that belong to one video."""
    names = {video.name(frame) for frame in range(len(video))}
    frames: Frames = {}
    has_video = single_video
    for row, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(f"{path}: entry {row} is no object; see docs/benchmarks.md for the form")
        if entry.get("video", video.id if single_video else None) != video.id:
            continue
        has_video, where = True, f"{path}: entry {row} (video {video.id})"
        frame, target = entry.get("frame"), entry.get("object", entry.get("target"))
        if frame not in names:
            raise InputError(f"{where}: {frame!r} is no frame of the video; names are like {min(names)!r}")
        objects = frames.setdefault(frame, {})
        if target is None or str(target) in objects:
            raise InputError(f"{where}: object {target} {'is given twice' if objects else 'is not given'} in {frame}")
        objects[str(target)] = entry.get("segmentation")
    if not has_video:
        raise InputError(f"{path}: video {video.id} is missing; no entry is about it")
    return frames


def load_json(path: Path) -> dict[str, Any] | list[Any]:
    """Read a JSON file. The last file is cached, since one file may hold all videos.

    Args:
        path: the file.

    Raises:
        InputError: the file is empty or damaged, or holds neither an object nor a list.
    """
    status = path.stat()
    return _cached(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)
def _cached(path: Path, *version: int) -> dict[str, Any] | list[Any]:  # ``version`` changes when the file does
    try:
        text = path.read_text(encoding="utf-8")
        if not text:
            raise InputError(f"{path}: the file is empty (0 bytes); write it again")
        data = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: damaged JSON ({error}); write it again") from error
    if not isinstance(data, (dict, list)):
        raise InputError(f"{path}: neither videos by name nor a list; see docs/benchmarks.md for the form")
    return data
