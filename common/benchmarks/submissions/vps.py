"""Submissions of video panoptic segmentation: segment maps, and a JSON file with the category of each segment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.masks import Size, size_message
from common.benchmarks.submissions.rle import load_json
from common.errors import InputError
from common.video import FrameMasks, Video
from common.video.masks import unique_ids

FORM = '{"annotations": [{"video_id", "annotations": [{"file_name", "segments_info": [...]}]}]}'
SegmentCategories = dict[str, dict[int, int]]  # file name -> segment -> category id


def read_segments_info(video: Video, folder: Path, errors: SubmissionErrors) -> SegmentCategories:
    """Read the categories of the segments of one video.

    Args:
        video: the video.
        folder: folder of the segment maps. The file is ``<folder>/<video>.json``, or ``pred.json`` in or above it.
        errors: collects the error if the file is missing or damaged; the result is then empty.
    """
    video_file = folder / f"{video.id}.json"
    paths = [path for path in (video_file, folder / "pred.json", folder.parent / "pred.json") if path.is_file()]
    if not paths:
        errors.add(f"{folder.parent / 'pred.json'}: no such file; write {FORM}")
        return {}
    try:
        data = load_json(paths[0])
        if not isinstance(data, dict):
            raise InputError(f"{paths[0]}: a list where an object must be: write {FORM}")
        names = (video.id, video.attributes.get("video_id", video.id))
        entries = [data] if paths[0] == video_file else data["annotations"]
        matches = [entry for entry in entries if entry["video_id"] in names]
        if not matches:
            raise InputError(f"{paths[0]}: video {video.id} is missing")
        return {
            Path(frame["file_name"]).stem: {int(s["id"]): s["category_id"] for s in frame["segments_info"]}
            for frame in matches[0]["annotations"]
        }
    except InputError as error:
        errors.add(str(error))
    except (KeyError, TypeError, ValueError) as error:
        errors.add(f"{paths[0]}: video {video.id}: not of the form {FORM} ({type(error).__name__}: {error})")
    return {}


def read_segments(
    video: Video,
    frame: int,
    folder: Path,
    segments_info: SegmentCategories,
    category_ids: Sequence[int],
    size: Size,
    errors: SubmissionErrors,
) -> FrameMasks:
    """Read one frame of a submission.

    Args:
        video: the video.
        frame: frame index.
        folder: folder with one folder of segment maps per video.
        segments_info: result of ``read_segments_info``.
        category_ids: id of each category of the vocabulary.
        size: required (H, W).
        errors: collects invalid segments, which are skipped.
    """
    name = video.name(frame)
    path = folder / video.id / f"{name}.png"
    segment_map = read_segment_map(path, size, errors)
    categories, ids, valid = segments_info.get(name, {}), unique_ids(segment_map), []
    for id in ids:
        if categories.get(id) in category_ids:
            valid.append(id)
            continue
        invalid = f"is of category {categories[id]!r}, which there is not" if id in categories else "is not in the JSON"
        errors.add(f"{path}: segment {id} {invalid}")
    for id in categories.keys() - set(ids):
        errors.add(f"{path}: segment {id} is in the JSON but has no pixel")
    masks = torch.stack([segment_map == id for id in valid]) if valid else segment_map[None][:0] > 0
    indices = tuple(category_ids.index(categories[id]) for id in valid)
    return FrameMasks(frame, tuple(valid), masks, torch.ones(len(valid)), indices)


def read_segment_map(path: Path, size: Size, errors: SubmissionErrors) -> Tensor:
    """Read a submitted segment map, int64 (H, W); zeros on error.

    Args:
        path: the file.
        size: required (H, W).
        errors: collects the error if the file is missing, unreadable or of another size.
    """
    try:
        ids = read_segment_ids(path)
        if tuple(ids.shape) != tuple(size):
            raise InputError(size_message(path, ids.shape, size))
        return ids
    except InputError as error:
        errors.add(str(error))
        return torch.zeros(size, dtype=torch.int64)


def read_segment_ids(path: Path) -> Tensor:
    """Read segment ids R + 256 G + 65536 B from an RGB PNG.

    Args:
        path: the file.

    Returns:
        int64 (H, W).

    Raises:
        InputError: the file is missing, damaged, or not an RGB image.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("RGB", "RGBA"):
                raise InputError(f"{path}: the map of segments is of mode {image.mode}; save an RGB PNG")
            colours = torch.from_numpy(np.array(image.convert("RGB")).astype(np.int64))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; write a map of segments for every frame") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: corrupt or unreadable map of segments; replace the file") from error
    return colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]
