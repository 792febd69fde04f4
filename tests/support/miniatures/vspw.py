"""Three names, two videos: squares on a floor, with a column of others and a row of void."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image

from tests.support.miniatures.drawing import SIZE, squares, write_frames

FRAMES = 10
NAMES = [f"{5 * n:08d}" for n in range(FRAMES)]
LABELS = {"others": 0, "wall": 1, "floor": 2, "table_or_desk": 3}
SPANS = {"room": {3: range(10)}, "hall": {3: range(5), 1: range(3, 10)}}


def labels(video: str) -> torch.Tensor:
    """uint8 (T, H, W)."""
    maps = squares(FRAMES, SPANS[video])
    maps = torch.where(maps == 0, 2, maps)
    maps[:, :, 40:], maps[:, 30:] = 0, 255
    return maps


def make(root: Path, name: str) -> None:
    """``val`` and ``train`` with annotations, ``test`` without."""
    for video in SPANS:
        write_frames(root / "data" / video / "origin", NAMES, SIZE)
        (root / "data" / video / "mask").mkdir()
        for stem, one in zip(NAMES, labels(video), strict=True):
            Image.fromarray(one.numpy()).save(root / "data" / video / "mask" / f"{stem}.png")
    write_frames(root / "data" / "yard" / "origin", NAMES, SIZE)
    for split, videos in (("val", ["room", "hall"]), ("train", ["hall"]), ("test", ["yard"])):
        (root / f"{split}.txt").write_text("\n".join(videos) + "\n")
    (root / "label_num_dic_final.json").write_text(json.dumps(LABELS))
