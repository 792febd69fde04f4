"""Submissions as COCO RLE in JSON."""

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
    faults: SubmissionErrors,
    any_label: bool = False,
) -> Iterator[Tensor | None]:
    """Masks bool (N, H, W) of each frame; None = counts as empty. Masks may overlap. See ``read_masks``.

    A file of one video (``<video>.json``) is either of these, an RLE being COCO's compressed
    ``{"size": [H, W], "counts": "..."}``::

        {"<frame>": {"<object>": RLE, ...}, ...}
        [{"frame": "<frame>", "object": <object>, "segmentation": RLE}, ...]

    A file of all videos is ``{"videos": {"<video>": ...}}`` with the first of these for each, or a list with
    ``"video": "<video>"`` in every entry; ``target`` may be said for ``object``. Frames go by the names of their files.
    In the first form a frame in which nothing is seen is ``{}``, and one that is not there is missing; in a list it
    simply has no entry.
    """
    try:
        given, listed = frames_of(path, video)
    except InputError as error:
        faults.report(str(error))
        yield from [None] * len(frames)
        return
    for frame in frames:
        name = video.name(frame)
        if name not in given and not listed:
            faults.report(f"{path}: video {video.id}, frame {name} is missing; write {{}} where nothing is seen")
        masks = torch.zeros(len(video.targets), *size, dtype=torch.bool)
        for key, rle in given.get(name, {}).items():
            where = f"{path}: video {video.id}, frame {name}, object {key}"
            target = int(key) if key.isdecimal() else None
            if not any_label and target not in video.targets:
                known = ", ".join(map(str, video.targets))
                faults.report(f"{where}: no target of the video (they are {known}); leave it out")
                continue
            mask = decoded(where, rle, size, faults)
            if mask is not None:
                masks[0 if any_label else video.targets.index(target)] |= mask
        yield masks


def decoded(where: str, rle: Any, size: tuple[int, int], faults: SubmissionErrors) -> Tensor | None:
    """Mask bool (H, W) of one RLE; None where it is none of this size, which ``faults`` is told."""
    if not (isinstance(rle, Mapping) and isinstance(rle.get("size"), list) and isinstance(rle.get("counts"), str)):
        faults.report(f'{where}: no compressed COCO RLE; write {{"size": [height, width], "counts": "..."}}')
        return None
    if rle["size"] != list(size):
        got, want = ("x".join(map(str, shape)) for shape in (rle["size"], size))
        faults.report(f"{where}: the mask is {got} (height x width) but the annotation is {want}")
        return None
    try:
        return rle_decode([dict(rle)])[0]
    except InputError as error:
        faults.report(f"{where}: {error}")
        return None


def frames_of(path: Path, video: Video) -> tuple[Frames, bool]:
    """What a file says about one video, and whether it is a list, in which frames may be absent.

    Raises:
        InputError: the file is damaged, or the video is not in it.
    """
    data = load_json(path)
    alone = path.stem == video.id
    if isinstance(data, list):
        return _collected(path, data, video, alone), True
    frames = data
    if not alone:
        videos = data.get("videos")
        if not isinstance(videos, dict):
            raise InputError(f'{path}: must be {{"videos": {{"<video>": ...}}}} or a list; see docs/benchmarks.md')
        if video.id not in videos:
            raise InputError(f"{path}: video {video.id} is missing; the file has {', '.join(list(videos)[:3])}")
        frames = videos[video.id]
    if not isinstance(frames, dict) or not all(isinstance(objects, dict) for objects in frames.values()):
        raise InputError(f"{path}: video {video.id}: not frames with objects; see docs/benchmarks.md for the form")
    return frames, False


def _collected(path: Path, entries: list[Any], video: Video, alone: bool) -> Frames:
    """The entries of a list that are about one video."""
    names = {video.name(frame) for frame in range(len(video))}
    frames: Frames = {}
    seen = alone
    for row, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(f"{path}: entry {row} is no object; see docs/benchmarks.md for the form")
        if entry.get("video", video.id if alone else None) != video.id:
            continue
        seen, where = True, f"{path}: entry {row} (video {video.id})"
        frame, target = entry.get("frame"), entry.get("object", entry.get("target"))
        if frame not in names:
            raise InputError(f"{where}: {frame!r} is no frame of the video; names are like {min(names)!r}")
        objects = frames.setdefault(frame, {})
        if target is None or str(target) in objects:
            raise InputError(f"{where}: object {target} {'is given twice' if objects else 'is not given'} in {frame}")
        objects[str(target)] = entry.get("segmentation")
    if not seen:
        raise InputError(f"{path}: video {video.id} is missing; no entry is about it")
    return frames


def load_json(path: Path) -> dict[str, Any] | list[Any]:
    """A JSON file; kept, since one file may hold all videos, until another is asked for or it changes.

    Raises:
        InputError: it is empty or damaged, or holds neither an object nor a list.
    """
    status = path.stat()
    return _cached(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)
def _cached(path: Path, *version: int) -> dict[str, Any] | list[Any]:
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
