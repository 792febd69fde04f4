"""Visual output: video files, mask overlays and contact sheets."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from common.errors import InputError
from common.files import atomic_path
from common.video.masks import palette
from common.video.types import FrameMasks


def write_video(path: str | Path, frames: Iterable[Tensor], fps: float = 24.0) -> None:
    """Write frames as an H.264 MP4 file that plays in any browser, atomically.

    H.264 in yuv420p requires even sizes: the last row or column of an odd size is repeated.

    Args:
        path: the file.
        frames: uint8 RGB (H, W, 3) each.
        fps: frame rate.

    Raises:
        InputError: there are no frames, or they differ in size.
    """
    import av

    with (
        atomic_path(path) as part,
        av.open(str(part), "w", format="mp4", options={"movflags": "faststart"}) as container,
    ):
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.pix_fmt = "yuv420p"
        size = None
        for index, frame in enumerate(frames):
            if size is None:
                size = frame.shape
                stream.height, stream.width = _even(frame).shape[:2]
            if frame.shape != size:
                raise InputError(f"{path}: frame {index} is {tuple(frame.shape)}, not {tuple(size)} like the first")
            pixels = _even(frame).cpu().numpy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        if size is None:
            raise InputError(f"{path}: there are no frames to write")
        container.mux(stream.encode())


def overlay(frame: Tensor, masks: FrameMasks, alpha: float = 0.5) -> Tensor:
    """Draw masks over a frame, tinted and outlined in their palette colours.

    Args:
        frame: uint8 (H, W, 3).
        masks: prediction for the frame.
        alpha: opacity of the tint.

    Returns:
        uint8 (H, W, 3).
    """
    out, colours = frame.float(), palette().to(frame.device).float()
    for target, mask in zip(masks.targets, masks.masks.to(frame.device), strict=True):
        out[mask] = (1 - alpha) * out[mask] + alpha * colours[target]
        out[_contour(mask)] = colours[target]
    return out.round().to(torch.uint8)


def contact_sheet(frames: Iterable[Tensor], columns: int) -> Tensor:
    """Arrange frames in a grid, row by row, on white.

    Args:
        frames: uint8 (H, W, 3) each, of one size.
        columns: number of columns.

    Returns:
        uint8 (rows * H, columns * W, 3).

    Raises:
        InputError: there are no frames, or they differ in size.
    """
    tiles = list(frames)
    if not tiles or len({tile.shape for tile in tiles}) > 1:
        raise InputError("contact sheet: it needs at least one frame, and all of one size")
    rows = math.ceil(len(tiles) / columns)
    tiles += [torch.full_like(tiles[0], 255)] * (rows * columns - len(tiles))
    return torch.cat([torch.cat(tiles[row * columns : (row + 1) * columns], 1) for row in range(rows)])


def _even(frame: Tensor) -> Tensor:
    height, width = frame.shape[:2]
    frame = torch.cat([frame, frame[-1:]]) if height % 2 else frame
    return torch.cat([frame, frame[:, -1:]], 1) if width % 2 else frame


def _contour(mask: Tensor) -> Tensor:
    """Return the pixels of a mask bool (H, W) with a 4-neighbour outside it; the image border is not an edge."""
    padded = pad(mask.float()[None], (1, 1, 1, 1), mode="replicate")[0] > 0
    return mask & ~(padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:])
