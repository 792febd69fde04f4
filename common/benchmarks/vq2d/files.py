"""Files of VQ2D: the queries of an annotation file, and submissions."""

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

from common.benchmarks.plain import read_json
from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.masks import json_of
from common.benchmarks.vq2d.tracks import TARGET, filled, scaled
from common.errors import InputError
from common.video import FrameMasks, Video

CORNERS = ("x1", "y1", "x2", "y2")
Json = dict[str, Any]


def valid_queries(data: Json, path: Path) -> dict[str, tuple[Json, Json]]:
    """Clip and query set by id, in the order of the annotation file, without clips that have no uid.

    Raises:
        InputError: another form, or an id that is there twice or cannot name a file; ``path`` is the file it names.
    """
    found: dict[str, tuple[Json, Json]] = {}
    try:
        for clip in (clip for video in data["videos"] for clip in video["clips"] if clip["clip_uid"] is not None):
            for number, annotation in enumerate(clip["annotations"]):
                for key, asked in annotation["query_sets"].items():
                    id = query_id(clip, number, key)
                    if id in found or not re.fullmatch(r"[\w.-]+", id):
                        raise InputError(f"{path}: query {id} is there twice, or cannot be the name of a file")
                    if asked["is_valid"]:
                        found[id] = clip, asked
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not in the form of VQ2D annotations ({error!r})") from error
    return found


def query_id(clip: Json, number: int, key: str) -> str:
    """Id of a query set.

    Args:
        clip: annotated or submitted.
        number: of the annotation in its clip.
        key: of the query set in its annotation.
    """
    return f"{clip['clip_uid']}-{number}-{key}"


def official(data: Json, answers: dict[str, Json]) -> Json:
    """A whole submission: tracks by id in the order of the annotation file; without an answer they are empty."""
    nothing = {"bboxes": [], "score": 0.0}

    def predictions(clip: Json) -> list[Json]:
        return [
            {
                "query_sets": {
                    key: answers.get(query_id(clip, number, key), nothing)
                    for key, asked in annotation["query_sets"].items()
                    if asked["is_valid"]
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


def track_json(boxes: Tensor, score: float) -> Json:
    """A track (K, 5) in the official form."""
    rows = [dict(zip(("fno", *CORNERS), map(int, row), strict=True)) for row in boxes.tolist()]
    return {"bboxes": rows, "score": score}


def track_answers(video: Video, folder: Path, faults: SubmissionErrors) -> Iterator[FrameMasks]:
    """A submitted track as masks of all frames, at the original size; see ``read_track``.

    Boxes are rounded to whole pixels and cut at the border of the image. A track that is wrong counts as empty, with
    score 0.
    """
    size = video.attributes["original_size"]
    boxes, score = torch.zeros(0, 5, dtype=torch.float64), 0.0
    try:
        boxes, score = read_track(folder, video.id)
        _check(boxes, len(video), size, f"{folder}, query {video.id}")
    except InputError as error:
        faults.report(str(error))
        boxes, score = boxes[:0], 0.0
    masks = {int(row[0]): scaled(row[1:], size, size) for row in boxes}
    absent, empty = torch.zeros(0, *size, dtype=torch.bool), torch.zeros(1, *size, dtype=torch.bool)
    for frame in range(len(video)):
        if frame in masks:
            yield FrameMasks(frame, (TARGET,), filled(masks[frame], size), torch.tensor([score]))
        elif frame == 0 and not masks:  # an empty track has a score too
            yield FrameMasks(frame, (TARGET,), empty, torch.tensor([score]))
        else:
            yield FrameMasks(frame, (), absent, absent.new_zeros(0, dtype=torch.float32))


def read_track(folder: Path, id: str) -> tuple[Tensor, float]:
    """A query's boxes float64 (K, 5), frames ascending, and score, from ``<id>.json`` or from the official file.

    Raises:
        InputError: there is none, or it is damaged or incomplete.
    """
    path = json_of(id, folder)
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


def _check(boxes: Tensor, length: int, size: Sequence[int], where: str) -> None:
    """Raise InputError if a track is not one box for each frame from its first to its last, in the video."""
    frames = boxes[:, 0]
    for before, after in pairwise(frames.tolist()):
        if after != before + 1:
            raise InputError(f"{where}: there must be one box for each frame, but {after:g} comes after {before:g}")
    if len(boxes) and not 0 <= frames[0] <= frames[-1] < length:
        raise InputError(
            f"{where}: frames {frames[0]:g} to {frames[-1]:g}, but only 0 to {length - 1} are before the query"
        )
    for frame, *box in boxes.tolist():
        if not filled([math.floor(value + 0.5) for value in box], size).any():
            raise InputError(f"{where}: the box of frame {frame:g}, {box}, has no pixel in the image {tuple(size)}")


@lru_cache(maxsize=1)
def _submission(path: Path, *version: int) -> Json:
    """Tracks of the official file by id; it is read once until it changes."""
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
