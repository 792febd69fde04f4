"""Own data of two small videos, with frames of two suffixes."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from common.video.masks import write_label_map
from tests.support.miniatures.davis import SIZE, squares


def make(root: Path, name: str) -> None:
    """Write ``folder`` into ``root``."""
    write(root, "pan", squares(6, (1, 2)), "png")
    write(root, "zoom", squares(5, (1,)), "bmp")


def write(root: Path, video: str, maps: Tensor, suffix: str = "jpg", start: int = 0, digits: int = 5) -> None:
    """A video with its label maps uint8 (T, H, W), in the plainest layout."""
    for frame, labels in enumerate(maps, start):
        save_frame(root / "JPEGImages" / video / f"{frame:0{digits}d}.{suffix}", 7 * frame % 255)
        write_label_map(root / "Annotations" / video / f"{frame:0{digits}d}.png", labels)


def save_frame(path: Path, grey: int, size: tuple[int, int] = SIZE) -> None:
    """A grey image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(torch.full((*size, 3), grey, dtype=torch.uint8).numpy()).save(path)
