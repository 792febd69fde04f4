"""A VQS-4K of a few small pictures."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from common.video.masks import write_label_map

SIZE = (12, 16)
# frames that show the target; the videos' lengths
VIDEOS = {"moth": ([1, 2, 3, 6, 7], 9), "kite": ([0, 1, 4], 5)}
OCCURRENCES = {"moth": [[1, 3], [6, 7]], "kite": [[0, 1], [4, 4]]}


def square(frame: int) -> Tensor:
    """Mask of the target, a square of 3 pixels' side that moves to the right."""
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[4:7, frame : frame + 3] = True
    return mask


def make(root: Path, name: str) -> None:
    """Write ``vqs4k``, with one video in ``train`` and two in ``test``, below ``root``."""
    for split, videos in (("train", ["kite"]), ("test", ["moth", "kite"])):
        for folder, suffix, text in (
            ("ImageSets", "txt", "\n".join(videos) + "\n"),
            (
                "meta",
                "json",
                json.dumps({"version": "proposed-1", "videos": {video: known(video) for video in videos}}),
            ),
        ):
            (root / folder).mkdir(parents=True, exist_ok=True)
            (root / folder / f"{split}.{suffix}").write_text(text)
    for video, (shown, length) in VIDEOS.items():
        for frame in range(length):
            save(root / "JPEGImages" / video / f"{frame:06d}.jpg", frame)
        for frame in shown:
            write_label_map(root / "Annotations" / video / f"{frame:06d}.png", square(frame).to(torch.uint8))
        save(root / "Queries" / video / "query.jpg", 100, (8, 10))
        write_label_map(root / "Queries" / video / "query.png", torch.eye(8, 10, dtype=torch.uint8))


def known(video: str) -> dict:
    """What ``meta`` says of a video."""
    return {
        "category": video,
        "coarse": "thing",
        "fps": 6,
        "length": VIDEOS[video][1],
        "height": SIZE[0],
        "width": SIZE[1],
        "occurrences": OCCURRENCES[video],
        "mean_area": 9.0,
    }


def save(path: Path, grey: int, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(torch.full((*size, 3), grey, dtype=torch.uint8).numpy()).save(path)
