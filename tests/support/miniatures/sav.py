"""An SA-V of small videos: objects that overlap, one that comes late, and folders that do not count from 000."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from tests.support.miniatures.own_folder import save_frame

SIZE = (12, 24)
STEP = 4
# split -> video -> length and, for each folder of an object, its row and the first frame that shows it
VIDEOS: dict[str, dict[str, tuple[int, dict[str, tuple[int, int]]]]] = {
    "val": {"sav_000001": (21, {"000": (2, 0), "001": (4, 8)}), "sav_000002": (17, {"001": (3, 0), "003": (6, 0)})},
    "test": {"sav_000003": (17, {"000": (5, 0)})},
}


def square(frame: int, row: int, start: int) -> Tensor:
    """Mask of an object, 4 by 4 pixels that move to the right."""
    mask = torch.zeros(SIZE, dtype=torch.bool)
    if frame >= start:
        mask[row : row + 4, frame // 2 : frame // 2 + 4] = True
    return mask


def make(root: Path, name: str) -> None:
    """Write ``sav``, both splits, into ``root``."""
    for split, videos in VIDEOS.items():
        place = root / f"sav_{split}"
        for video, (length, objects) in videos.items():
            for frame in range(length):
                save_frame(place / "JPEGImages_24fps" / video / f"{frame:05d}.jpg", 5 * frame, SIZE)
            for object, (row, start) in objects.items():
                folder = place / "Annotations_6fps" / video / object
                folder.mkdir(parents=True)
                for frame in range(0, length, STEP):
                    pixels = square(frame, row, start).numpy()
                    Image.fromarray(pixels).save(folder / f"{frame:05d}.png")
        (place / f"sav_{split}.txt").write_text("\n".join(videos) + "\n")
