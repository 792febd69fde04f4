"""Draw the figures of the documentation: ``python -m common.synthetic docs/images``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from common.synthetic.clips import SyntheticClips
from common.synthetic.presets import PRESETS

OUTLINES = torch.tensor([[255, 255, 255], [255, 0, 255], [0, 255, 0], [255, 255, 0]], dtype=torch.uint8)


def draw_outlines(frame: Tensor, masks: Tensor) -> Tensor:
    """Draw the inner border of every mask, one pixel wide.

    Args:
        frame: uint8 (H, W, 3).
        masks: bool (N, H, W).
    """
    out = frame.clone()
    eroded = -F.max_pool2d(-masks.float()[:, None], 3, stride=1, padding=1)[:, 0] > 0
    for number, border in enumerate(masks & ~eroded):
        out[border] = OUTLINES[number % len(OUTLINES)]
    return out


def draw_sheet(preset: str, videos: int = 3, columns: int = 8, size: int = 96) -> Tensor:
    """Draw one row of evenly spaced frames for each of the first videos of a preset.

    Args:
        preset: name of the preset.
        videos: number of rows.
        columns: frames per row.
        size: side of a frame in pixels.

    Returns:
        uint8 (videos * size, columns * size, 3).
    """
    clips = SyntheticClips(preset, size=(size, size))
    rows = []
    for index in range(videos):
        video = clips[index]
        times = torch.linspace(0, len(video) - 1, columns).long().tolist()
        assert video.truth is not None
        rows.append(torch.cat([draw_outlines(video[t], video.truth[t]) for t in times], 1))  # type: ignore[arg-type]
    return torch.cat(rows, 0)


def main(folder: Path) -> None:
    """Write ``synthetic_<preset>.png`` for every preset, with 128 colours to keep the files small.

    Args:
        folder: folder to write to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for preset in PRESETS:
        picture = Image.fromarray(draw_sheet(preset).numpy()).quantize(128, dither=Image.Dither.NONE)
        picture.save(folder / f"synthetic_{preset}.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
