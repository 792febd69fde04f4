"""Two videos with a wall, two persons, a crowd of persons and a strip of void; the numbers of segments are large."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from common.benchmarks.tasks.vps import write_segment_ids
from tests.support.miniatures.drawing import SIZE, squares, write_frames

FRAMES = 9
NAMES = [f"{n:08d}" for n in range(FRAMES)]
CATEGORIES = [
    {"id": 61, "name": "person", "isthing": 1},
    {"id": 0, "name": "wall", "isthing": 0},
    {"id": 7, "name": "road", "isthing": 0},
]
SPANS = {"walk": {1: range(9), 2: range(4, 9)}, "queue": {1: [0, 1, 2, 6, 7, 8], 3: range(9)}}
IDS = {0: 1, 1: 6201, 2: 6202, 3: 70_200}  # square -> segment; what no square covers is the wall
KINDS = {1: 0, 6201: 61, 6202: 61, 70_200: 61}
CROWD = 70_200


def ids(video: str) -> torch.Tensor:
    """Segments int64 (T, H, W)."""
    maps = squares(FRAMES, SPANS[video]).long()
    out = torch.zeros_like(maps)
    for square, segment in IDS.items():
        out[maps == square] = segment
    out[:, 30:] = 0
    return out


def make(root: Path, name: str) -> None:
    """``val`` and ``train`` as the data set's programs write them, and ``test``, which is frames alone."""
    for split, videos in (("val", ["walk", "queue"]), ("train", ["walk"])):
        said: dict = {"videos": [], "annotations": [], "categories": CATEGORIES}
        for video in videos:
            images, annotations = [], []
            for number, (stem, one) in enumerate(zip(NAMES, ids(video), strict=True)):
                image = {"id": f"{video}_{number}", "file_name": f"{stem}.jpg", "width": SIZE[1], "height": SIZE[0]}
                images.append(image)
                segments = [
                    {"id": s, "category_id": KINDS[s], "iscrowd": int(s == CROWD), "area": int((one == s).sum())}
                    for s in one.unique().tolist()
                    if s
                ]
                annotations.append({"image_id": image["id"], "file_name": f"{stem}.png", "segments_info": segments})
                write_segment_ids(root / "panomasksRGB" / video / f"{stem}.png", one)
            said["videos"].append({"video_id": video, "images": images})
            said["annotations"].append({"video_id": video, "annotations": annotations})
        (root / f"panoptic_gt_VIPSeg_{split}.json").write_text(json.dumps(said))
    for video in ("walk", "queue", "yard"):
        write_frames(root / "images" / video, NAMES)
    (root / "test.txt").write_text("yard\n")
    (root / "panoVIPSeg_categories.json").write_text(json.dumps(CATEGORIES))
