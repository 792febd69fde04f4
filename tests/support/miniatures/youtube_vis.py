"""Three videos of two categories; a crowd, a late instance and a gap; RLE as lists of runs, as it is released."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from tests.support.miniatures.drawing import SIZE, squares, write_frames

FRAMES = 6
NAMES = [f"{5 * n:05d}" for n in range(FRAMES)]
# of each video: instance -> the frames that show it; and its category, numbered as in the file
SPANS = {"run": {1: range(6), 2: range(2, 6)}, "sit": {1: [0, 1, 4, 5]}, "herd": {1: range(6), 2: range(6)}}
CATEGORIES = {"run": {1: 3, 2: 7}, "sit": {1: 7}, "herd": {1: 3, 2: 3}}
CROWD = ("herd", 2)


def make(root: Path, name: str) -> None:
    """``train`` with annotations, ``valid`` without, in the files' layout of the edition."""
    for split in ("train", "valid"):
        frames = root / split if name == "ovis" else root / split / "JPEGImages"
        videos, annotations = [], []
        for number, (video, spans) in enumerate(SPANS.items(), start=11):
            write_frames(frames / video, NAMES)
            height, width = SIZE
            files = [f"{video}/{frame}.jpg" for frame in NAMES]
            videos.append({"id": number, "width": width, "height": height, "length": FRAMES, "file_names": files})
            maps = squares(FRAMES, spans)
            annotations += [track(100 + len(annotations) + id, number, video, id, maps == id) for id in spans]
        said: dict[str, Any] = {"info": {}, "videos": videos, "annotations": annotations if split == "train" else None}
        said["categories"] = [{"id": 7, "name": "cat", "supercategory": "thing"}, {"id": 3, "name": "giant_panda"}]
        path = root / (f"annotations_{split}.json" if name == "ovis" else f"{split}.json")
        path.write_text(json.dumps(said))


def track(number: int, video_id: int, video: str, id: int, masks: Tensor) -> dict[str, Any]:
    """One annotation; masks bool (T, H, W)."""
    return {
        "id": number,
        "video_id": video_id,
        "category_id": CATEGORIES[video][id],
        "iscrowd": int((video, id) == CROWD),
        "segmentations": [{"size": list(SIZE), "counts": runs(mask)} if mask.any() else None for mask in masks],
        "areas": [int(mask.sum()) if mask.any() else None for mask in masks],
        "bboxes": [None] * FRAMES,
        "height": SIZE[0],
        "width": SIZE[1],
    }


def runs(mask: Tensor) -> list[int]:
    """COCO's runs of a mask, down the columns, first of what is not set."""
    pixels, counts, value = mask.T.flatten().tolist(), [0], False
    for pixel in pixels:
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts
