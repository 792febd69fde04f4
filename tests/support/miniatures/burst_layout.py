"""A video of ten frames, of which every third is annotated, and one without tracks."""

from __future__ import annotations

import json
from pathlib import Path

from common.video.masks import rle_encode
from tests.support.miniatures.drawing import SIZE, squares, write_frames

FRAMES = 10
NAMES = [f"frame{n:04d}" for n in range(1, FRAMES + 1)]
ANNOTATED = [0, 3, 6, 9]
SPANS = {2: ANNOTATED, 5: [3, 6]}  # target -> the frames that show it
CATEGORIES = {2: 805, 5: 3}


def make(root: Path) -> None:
    """``annotations/train/train.json`` and ``frames/train``."""
    maps = squares(FRAMES, SPANS)
    masks = [
        {
            str(target): {"rle": rle_encode((maps[frame] == target)[None])[0]["counts"], "is_gt": frame != 3}
            for target, span in SPANS.items()
            if frame in span
        }
        for frame in ANNOTATED
    ]
    height, width = SIZE
    sequence = {
        "id": 1,
        "dataset": "LaSOT",
        "seq_name": "cup-1",
        "fps": 30,
        "height": height,
        "width": width,
        "all_image_paths": [f"{name}.jpg" for name in NAMES],
        "annotated_image_paths": [f"{NAMES[frame]}.jpg" for frame in ANNOTATED],
        "track_category_ids": {str(target): number for target, number in CATEGORIES.items()},
        "segmentations": masks,
    }
    empty = sequence | {"id": 2, "seq_name": "cup-2", "track_category_ids": {}, "segmentations": [{}] * len(ANNOTATED)}
    write_frames(root / "frames/train/LaSOT/cup-1", NAMES)
    said = {
        "split": "train",
        "sequences": [empty, sequence],
        "categories": [{"id": 3, "name": "cup"}, {"id": 805, "name": "person"}],
    }
    (root / "annotations/train").mkdir(parents=True)
    (root / "annotations/train/train.json").write_text(json.dumps(said))
