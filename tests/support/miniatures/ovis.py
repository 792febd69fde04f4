"""Two videos in the form of YouTube-VIS: ``walk`` with two targets that overlap, ``still`` with a crowd alone."""

from __future__ import annotations

import json
from pathlib import Path

from common.video.masks import rle_encode
from tests.support.miniatures.drawing import SIZE, squares, write_frames

FRAMES = 5
NAMES = [f"img_{n:07d}" for n in range(1, FRAMES + 1)]
SPANS = {41: range(5), 57: [1, 2, 4]}  # number of the annotation -> the frames that show it


def make(root: Path, listed_runs: bool = False) -> None:
    """``annotations_train.json`` and ``train``; RLE compressed, or as lists of runs."""
    maps, annotations = squares(FRAMES, SPANS), []
    for number, category in ((41, 7), (57, 2)):
        segmentations = [None] * FRAMES
        for frame in SPANS[number]:
            mask = maps[frame] == number
            segmentations[frame] = (
                {"size": list(SIZE), "counts": runs(mask)} if listed_runs else rle_encode(mask[None])[0]
            )
        entry = {"id": number, "video_id": 3, "category_id": category, "iscrowd": 0}
        annotations.append(entry | {"segmentations": segmentations})
    annotations.append({"id": 60, "video_id": 4, "category_id": 2, "iscrowd": 1, "segmentations": [None] * FRAMES})
    height, width = SIZE
    videos = []
    for number, name in ((4, "still"), (3, "walk")):
        write_frames(root / "train" / name, NAMES)
        files = [f"{name}/{stem}.jpg" for stem in NAMES]
        videos.append({"id": number, "height": height, "width": width, "length": FRAMES, "file_names": files})
    said = {
        "videos": videos,
        "annotations": annotations,
        "categories": [{"id": 7, "name": "Cat"}, {"id": 2, "name": "Bird"}],
    }
    (root / "annotations_train.json").write_text(json.dumps(said))


def runs(mask) -> list[int]:
    """Lengths of runs of 0 and 1 down the columns, from 0 on."""
    counts, now = [0], 0
    for value in mask.T.flatten().tolist():
        if value != now:
            counts.append(0)
            now = value
        counts[-1] += 1
    return counts
