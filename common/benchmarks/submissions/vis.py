"""Submissions of video instance segmentation: a list of tracks with category, score and COCO RLE."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.masks import find_json
from common.benchmarks.submissions.rle import decode_mask, load_json
from common.errors import InputError
from common.video import FrameMasks, Video

FORM = '[{"video_id", "score", "category_id", "segmentations": [RLE or null for each frame]}, ...]'


def read_entries(
    video: Video, folder: Path, errors: SubmissionErrors, video_ids: Collection[int] = ()
) -> list[tuple[str, Any]]:
    """Read the entries of one video, each with its location for error messages.

    Args:
        video: the video.
        folder: folder of the submission.
        errors: collects the error if the file is missing or damaged, in which case the result is empty, and entries
            whose ``video_id`` is no id of the benchmark.
        video_ids: ids of all videos of the split; empty: not checked.
    """
    path = find_json(video.id, folder)
    if path is None:
        errors.add(f"{folder / video.id}.json: no such file, and no one JSON for all videos: write {FORM}")
        return []
    try:
        data = load_json(path)
        if not isinstance(data, list):
            raise InputError(f"{path}: an object where a list must be: write {FORM}")
    except InputError as error:
        errors.add(str(error))
        return []
    video_id = video.attributes["video_id"]
    if video_ids:
        for row, entry in enumerate(data):
            named = entry.get("video_id") if isinstance(entry, dict) else video_id
            if type(named) is not int or named not in video_ids:
                errors.add(
                    f"{path}: entry {row}: video_id {named!r} is no video of the split; its ids are integers such as "
                    f"{min(video_ids)}"
                )
    # Entries that are not objects belong to no video; they are kept so that the error is reported.
    return [
        (f"{path}: entry {row}", entry)
        for row, entry in enumerate(data)
        if not isinstance(entry, dict) or entry.get("video_id") == video_id
    ]


def entry_predictions(
    video: Video,
    entries: Sequence[tuple[str, Any]],
    category_ids: Sequence[int],
    size: tuple[int, int],
    errors: SubmissionErrors,
) -> Iterator[FrameMasks]:
    """Convert entries to predictions; valid entries become targets 1, 2, ... in their order.

    Args:
        video: the video.
        entries: result of ``read_entries``.
        category_ids: id of each category of the vocabulary.
        size: required (H, W) of every mask.
        errors: collects invalid entries, which are skipped, and invalid masks, which count as empty.

    Yields:
        A prediction for every frame of the video.
    """
    valid = [(where, entry) for where, entry in entries if _is_valid(where, entry, category_ids, len(video), errors)]
    scores = torch.tensor([float(entry["score"]) for _, entry in valid], dtype=torch.float64)
    categories = tuple(category_ids.index(entry["category_id"]) for _, entry in valid)
    for frame in range(len(video)):
        masks = torch.zeros(len(valid), *size, dtype=torch.bool)
        for row, (where, entry) in enumerate(valid):
            rle = entry["segmentations"][frame]
            mask = None if rle is None else decode_mask(f"{where}, frame {frame}", rle, size, errors)
            if mask is not None:
                masks[row] = mask
        yield FrameMasks(frame, tuple(range(1, len(valid) + 1)), masks, scores, categories)


def _is_valid(where: str, entry: object, category_ids: Sequence[int], frames: int, errors: SubmissionErrors) -> bool:
    """Return whether an entry can be used; otherwise add the reason to ``errors``."""
    if not isinstance(entry, dict):
        problem = f"a {type(entry).__name__} is no entry: write {FORM}"
    elif isinstance(entry.get("score"), bool) or not isinstance(entry.get("score"), (int, float)):
        problem = f"score {entry.get('score')!r} is not a number"
    elif not math.isfinite(entry["score"]):
        problem = f"score {entry['score']} is not finite"
    elif entry.get("category_id") not in category_ids:
        problem = f"category_id {entry.get('category_id')!r} is none of {min(category_ids)} to {max(category_ids)}"
    elif not isinstance(entry.get("segmentations"), list) or len(entry["segmentations"]) != frames:
        segmentations = entry.get("segmentations")
        count = len(segmentations) if isinstance(segmentations, list) else "no"
        problem = f"{count} segmentations for {frames} frames; write one RLE or null for each"
    else:
        return True
    errors.add(f"{where}: {problem}")
    return False
