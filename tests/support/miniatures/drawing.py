"""Label maps of moving squares, and the folders they are written to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from common.video.masks import write_label_map

SIZE = (36, 48)


def squares(frames: int, spans: Mapping[int, Sequence[int]], size: tuple[int, int] = SIZE, side: int = 8) -> Tensor:
    """Label maps uint8 (T, H, W): a square for each id in the frames of its span, each in its own row."""
    maps = torch.zeros(frames, *size, dtype=torch.uint8)
    for row, (target, span) in enumerate(spans.items()):
        for frame in span:
            maps[frame, (side + 1) * row : (side + 1) * row + side, 2 * frame : 2 * frame + side] = target
    return maps


def write_frames(folder: Path, names: Sequence[str], size: tuple[int, int] = SIZE) -> None:
    """A grey JPEG for each name."""
    folder.mkdir(parents=True)
    for index, name in enumerate(names):
        Image.new("L", size[::-1], 5 * index).convert("RGB").save(folder / f"{name}.jpg")


def write_maps(folder: Path, names: Sequence[str], maps: Tensor) -> None:
    """A palette PNG for each name."""
    for name, labels in zip(names, maps, strict=True):
        write_label_map(folder / f"{name}.png", labels)
