"""Submissions of video instance segmentation: a list of tracks, each with a category, a score and COCO RLE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.masks import json_of
from common.benchmarks.submissions.rle import decoded, load_json
from common.errors import InputError
from common.video import FrameMasks, Video

FORM = '[{"video_id", "score", "category_id", "segmentations": [RLE or null for each frame]}, ...]'


def entries_of(video: Video, folder: Path, faults: SubmissionErrors) -> list[tuple[str, Any]]:
    """The entries about one video, each with where it stands. Nothing where the file is missing or damaged."""
    path = json_of(video.id, folder)
    if path is None:
        faults.report(f"{folder / video.id}.json: no such file, and no one JSON for all videos: write {FORM}")
        return []
    try:
        data = load_json(path)
        if not isinstance(data, list):
            raise InputError(f"{path}: an object where a list must be: write {FORM}")
    except InputError as error:
        faults.report(str(error))
        return []
    number = video.attributes["video_id"]
    about = [
        (row, said) for row, said in enumerate(data) if not isinstance(said, dict) or said.get("video_id") == number
    ]
    return [(f"{path}: entry {row}", said) for row, said in about]


def answers_of(
    video: Video,
    entries: Sequence[tuple[str, Any]],
    category_ids: Sequence[int],
    size: tuple[int, int],
    faults: SubmissionErrors,
) -> Iterator[FrameMasks]:
    """All frames of a video; the entries that are whole are targets 1, 2, ... in their order.

    Args:
        video: whose frames are answered.
        entries: see ``entries_of``.
        category_ids: id of each category of the vocabulary.
        size: (H, W) that every mask must have.
        faults: told of entries that are not whole, which are left out, and of masks that are wrong, which are empty.
    """
    whole = [(where, said) for where, said in entries if _whole(where, said, category_ids, len(video), faults)]
    scores = torch.tensor([float(said["score"]) for _, said in whole], dtype=torch.float64)
    categories = tuple(category_ids.index(said["category_id"]) for _, said in whole)
    for frame in range(len(video)):
        masks = torch.zeros(len(whole), *size, dtype=torch.bool)
        for row, (where, said) in enumerate(whole):
            rle = said["segmentations"][frame]
            mask = None if rle is None else decoded(f"{where}, frame {frame}", rle, size, faults)
            if mask is not None:
                masks[row] = mask
        yield FrameMasks(frame, tuple(range(1, len(whole) + 1)), masks, scores, categories)


def _whole(where: str, said: Any, category_ids: Sequence[int], frames: int, faults: SubmissionErrors) -> bool:
    """Whether an entry can be used; otherwise ``faults`` is told why not."""
    if not isinstance(said, dict):
        problem = f"a {type(said).__name__} is no entry: write {FORM}"
    elif isinstance(said.get("score"), bool) or not isinstance(said.get("score"), (int, float)):
        problem = f"score {said.get('score')!r} is not a number"
    elif said.get("category_id") not in category_ids:
        problem = f"category_id {said.get('category_id')!r} is none of {min(category_ids)} to {max(category_ids)}"
    elif not isinstance(said.get("segmentations"), list) or len(said["segmentations"]) != frames:
        given = said.get("segmentations")
        count = len(given) if isinstance(given, list) else "no"
        problem = f"{count} segmentations for {frames} frames; write one RLE or null for each"
    else:
        return True
    faults.report(f"{where}: {problem}")
    return False
