"""Annotation and submission files of VQ2D."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.masks import find_json
from common.benchmarks.vq2d.tracks import TARGET, box_mask, scale_box
from common.errors import InputError
from common.files import read_json
from common.video import FrameMasks, Video

CORNERS = ("x1", "y1", "x2", "y2")
JSONObject = dict[str, Any]


def valid_queries(data: JSONObject, path: Path) -> dict[str, tuple[JSONObject, JSONObject]]:
    """Return clip and query set by id, in the order of the annotation file, without clips that have no uid.

    Args:
        data: content of the annotation file.
        path: the file, for error messages.

    Raises:
        InputError: the file has another format, or an id is repeated or is not a valid file name.
    """
    queries: dict[str, tuple[JSONObject, JSONObject]] = {}
    try:
        for clip in (clip for video in data["videos"] for clip in video["clips"] if clip["clip_uid"] is not None):
            for number, annotation in enumerate(clip["annotations"]):
                for key, query in annotation["query_sets"].items():
                    id = query_id(clip, number, key)
                    if id in queries or not re.fullmatch(r"[\w.-]+", id):
                        raise InputError(f"{path}: query {id} is there twice, or cannot be the name of a file")
                    if query["is_valid"]:
                        queries[id] = clip, query
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not in the form of VQ2D annotations ({error!r})") from error
    return queries


def query_id(clip: JSONObject, number: int, key: str) -> str:
    """Return the id of a query set.

    Args:
        clip: clip of an annotation file or a submission.
        number: index of the annotation in its clip.
        key: key of the query set in its annotation.
    """
    return f"{clip['clip_uid']}-{number}-{key}"


def official_json(data: JSONObject, answers: dict[str, JSONObject]) -> JSONObject:
    """Return a complete submission in the official format.

    Args:
        data: content of the annotation file.
        answers: track by query id, see ``track_json``; missing tracks are empty.
    """
    empty = {"bboxes": [], "score": 0.0}

    def predictions(clip: JSONObject) -> list[JSONObject]:
        return [
            {
                "query_sets": {
                    key: answers.get(query_id(clip, number, key), empty)
                    for key, query in annotation["query_sets"].items()
                    if query["is_valid"]
                }
            }
            for number, annotation in enumerate(clip["annotations"])
        ]

    videos = [
        {
            "video_uid": video["video_uid"],
            "clips": [{"clip_uid": clip["clip_uid"], "predictions": predictions(clip)} for clip in video["clips"]],
        }
        for video in data["videos"]
    ]
    head = {"version": data.get("version", "1.0"), "challenge": "ego4d_vq2d_challenge"}
    return {**head, "results": {"videos": videos}}


def track_json(boxes: Tensor, score: float) -> JSONObject:
    """Return a track in the official format.

    Args:
        boxes: (K, 5), rows (frame, x0, y0, x1, y1) in whole pixels.
        score: confidence of the track.
    """
    rows = [dict(zip(("fno", *CORNERS), map(int, row), strict=True)) for row in boxes.tolist()]
    return {"bboxes": rows, "score": score}


def read_track_masks(video: Video, folder: Path, errors: SubmissionErrors) -> Iterator[FrameMasks]:
    """Read a submitted track as filled masks of the original size.

    Boxes are rounded to whole pixels and clipped to the image. An invalid track counts as empty, with score 0.

    Args:
        video: the query.
        folder: folder of the submission.
        errors: collects the error if the track is invalid.

    Yields:
        A prediction for every frame.
    """
    size = video.attributes["original_size"]
    boxes, score = torch.zeros(0, 5, dtype=torch.float64), 0.0
    try:
        boxes, score = read_track(folder, video.id)
        _check_track(boxes, len(video), size, f"{folder}, query {video.id}")
    except InputError as error:
        errors.add(str(error))
        boxes, score = boxes[:0], 0.0
    masks = {int(row[0]): scale_box(row[1:], size, size) for row in boxes}
    absent, empty = torch.zeros(0, *size, dtype=torch.bool), torch.zeros(1, *size, dtype=torch.bool)
    for frame in range(len(video)):
        if frame in masks:
            yield FrameMasks(frame, (TARGET,), box_mask(masks[frame], size), torch.tensor([score]))
        elif frame == 0 and not masks:  # an empty track has a score too, which needs a target to carry it
            yield FrameMasks(frame, (TARGET,), empty, torch.tensor([score]))
        else:
            yield FrameMasks(frame, (), absent, absent.new_zeros(0, dtype=torch.float32))


def read_track(folder: Path, id: str) -> tuple[Tensor, float]:
    """Read the track of a query from ``<id>.json`` or from the official file.

    Args:
        folder: folder of the submission.
        id: id of the query.

    Returns:
        Boxes float64 (K, 5), rows (frame, x0, y0, x1, y1) by ascending frame, and the score.

    Raises:
        InputError: the file is missing, damaged or incomplete.
    """
    path = find_json(id, folder)
    if path is None:
        raise InputError(f"{folder}: no {id}.json and no submission in one JSON file")
    if path.stem == id:
        track: Any = read_json(path, "track")
    else:
        status = path.stat()
        track = _submission(path, status.st_mtime_ns, status.st_size).get(id)
    try:
        rows = [[float(box[key]) for key in ("fno", *CORNERS)] for box in track["bboxes"]]
        boxes, score = torch.tensor(sorted(rows), dtype=torch.float64).reshape(-1, 5), float(track["score"])
        if not boxes.isfinite().all() or not math.isfinite(score) or (boxes[:, 0] % 1).any():
            raise ValueError("a number is not finite, or a frame's is not whole")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f'{path}: query {id} must be {{"bboxes": [{{"fno", ...}}], "score"}} ({error!r})') from error
    return boxes, score


def _check_track(boxes: Tensor, length: int, size: Sequence[int], where: str) -> None:
    """Raise InputError unless a track has one box per frame from its first to its last, all within the video."""
    frames = boxes[:, 0]
    for before, after in pairwise(frames.tolist()):
        if after != before + 1:
            raise InputError(f"{where}: there must be one box for each frame, but {after:g} comes after {before:g}")
    if len(boxes) and not 0 <= frames[0] <= frames[-1] < length:
        raise InputError(
            f"{where}: frames {frames[0]:g} to {frames[-1]:g}, but only 0 to {length - 1} are before the query"
        )
    for frame, *box in boxes.tolist():
        if not box_mask([math.floor(value + 0.5) for value in box], size).any():
            raise InputError(f"{where}: the box of frame {frame:g}, {box}, has no pixel in the image {tuple(size)}")


@lru_cache(maxsize=1)
def _submission(path: Path, *version: int) -> JSONObject:
    """Read the tracks of the official file by query id; cached until the file, hence ``version``, changes."""
    data = read_json(path, "submission")
    try:
        return {
            query_id(clip, number, key): track
            for video in data["results"]["videos"]
            for clip in video["clips"]
            for number, prediction in enumerate(clip["predictions"])
            for key, track in prediction["query_sets"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not in the official form of VQ2D submissions ({error!r})") from error
