"""A toolkit workspace of two small sequences: ``solo`` with one object, ``pair`` with two that overlap."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from common.vot.regions import ABSENT, UNKNOWN, Mask, Region, write_regions

SIZE = (12, 32)
# length of each sequence, and for each of its objects (id -> row of its square) the frames that do not show it
LENGTHS = {"solo": 5, "pair": 16}
OBJECTS: dict[str, dict[str, int]] = {"solo": {"object": 2}, "pair": {"9": 3, "10": 5}}
HIDDEN = {"10": range(3, 15)}  # 12 frames without object 10
GAP = ("9", 4)  # object 9 is unknown in frame 4, and from frame 14 on, where its file ends
ENDS = {"9": 14}


def square(frame: int, row: int) -> Tensor:
    """Mask of an object: 4 by 4 pixels that move to the right."""
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[row : row + 4, frame : frame + 4] = True
    return mask


def region(frame: int, id: str, row: int) -> Region:
    """Ground truth of an object in a frame."""
    if (id, frame) == GAP:
        return UNKNOWN
    return ABSENT if frame in HIDDEN.get(id, ()) else Mask.of(square(frame, row))


def make(root: Path, name: str, hidden: bool = False) -> None:
    """Write the workspace of ``vots2023``, ``vots2024`` or ``votst2024`` into ``root``.

    Args:
        root: the workspace.
        name: of the benchmark; ``votst2024`` has tags.
        hidden: ground truth of the first frame only, as in the challenges.
    """
    (root / "sequences").mkdir(parents=True)
    (root / "sequences" / "list.txt").write_text("\n".join(LENGTHS) + "\n\n")
    for sequence, length in LENGTHS.items():
        folder = root / "sequences" / sequence
        (folder / "color").mkdir(parents=True)
        for frame in range(length):
            Image.new("RGB", SIZE[::-1], (9 * frame, 80, 80)).save(folder / "color" / f"{frame + 1:08d}.jpg")
        keys = {"name": sequence, "fps": 25, "format": "default", "channels.color": "color/%08d.jpg"}
        (folder / "sequence").write_text("".join(f"{key}={value}\n" for key, value in keys.items()))
        for id, row in OBJECTS[sequence].items():
            known = 1 if hidden else ENDS.get(id, length)
            file = "groundtruth.txt" if id == "object" else f"groundtruth_{id}.txt"
            write_regions(folder / file, [region(frame, id, row) for frame in range(known)])
        if name == "votst2024" and not hidden:
            tags = [0, *[frame % 2 for frame in range(1, length)]]
            (folder / "evaluation.tag").write_text("".join(f"{tag}\n" for tag in tags))
            # without ignore regions the toolkit itself cannot score tagged frames
            write_regions(folder / "groundtruth__ignore.txt", [UNKNOWN] * length)
