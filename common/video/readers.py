"""Lazy frame sources: a folder of images, a tensor, an iterator; ``open_video`` selects one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.errors import InputError
from common.video.images import SUFFIXES, page_count, read_image
from common.video.video import Frames, Video
from common.video.video_file import VideoFile

Source = str | Path | Tensor | np.ndarray | Iterable[Tensor | np.ndarray]


class ImageFolder:
    """A folder of images, one per frame, in the natural order of their names (``2`` before ``10``).

    Names that end in numbers at regular steps must have no gap, which would be a missing frame. Numbers at irregular
    steps are time stamps.

    Args:
        path: the folder; hidden files are skipped.
        suffixes: suffixes of frame files.
        gaps: allow gaps in the numbering.

    Attributes:
        names: file stem of each frame.

    Raises:
        InputError: the folder is missing or has no frames, the numbering has a gap, or two files have the same stem; on
            reading, a frame is missing, corrupt, or differs in size from those read before.
    """

    def __init__(self, path: str | Path, suffixes: Sequence[str] = SUFFIXES, gaps: bool = False) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise InputError(f"{self.path}: no such folder of frames")
        files = [f for f in self.path.iterdir() if f.suffix.lower() in suffixes and not f.name.startswith(".")]
        if not files:
            raise InputError(f"{self.path}: there are no frames ({', '.join(suffixes)}) in this folder")
        self._files = sorted(files, key=lambda file: (natural_order(file.stem), file.suffix))
        self.names = [file.stem for file in self._files]
        self._check_names(gaps)
        self._size: tuple[str, int, int] | None = None

    def __len__(self) -> int:
        return len(self._files)

    @cached_property
    def size(self) -> tuple[int, int]:
        """(H, W) of the first frame."""
        height, width = self[0].shape[:2]
        return height, width

    def __getitem__(self, index: int) -> Tensor:
        file = self._files[index]
        frame = read_image(file)
        size = (file.name, *frame.shape[:2])
        self._size = self._size or size
        if self._size[1:] != size[1:]:
            (name, height, width), here = self._size, f"{size[1]}x{size[2]}"
            raise InputError(f"{file}: the frame is {here} but {name} is {height}x{width}; frames must have one size")
        return frame

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(len(self)))

    def _check_names(self, gaps: bool) -> None:
        for before, name in pairwise(self.names):
            if before == name:
                raise InputError(f"{self.path}: two files are named {name}; keep one of them or give suffixes")
        hole = None if gaps else _first_hole(self.names)
        if hole:
            raise InputError(
                f"{self.path}: frame {hole} is missing; add it, or allow gaps in the numbering (track --gaps; gaps of "
                "the benchmark or of data)"
            )


class ImageStack:
    """The pages of a TIFF file, one per frame, uint8 RGB (H, W, 3).

    Args:
        path: the file.

    Raises:
        InputError: the file cannot be read; on reading, a page is corrupt or differs in size from the first.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.length = page_count(self.path)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        index = range(self.length)[index]
        frame = read_image(self.path, page=index)
        if index and frame.shape != self.first.shape:
            here, first = (f"{shape[0]}x{shape[1]}" for shape in (frame.shape, self.first.shape))
            raise InputError(f"{self.path}: page {index} is {here}, the first is {first}; frames must have one size")
        return frame

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(self.length))

    @cached_property
    def first(self) -> Tensor:
        """The first page."""
        return read_image(self.path, page=0)


class TensorFrames:
    """Frames from a tensor.

    Args:
        frames: uint8 RGB (T, H, W, 3).

    Raises:
        InputError: the tensor has another shape or type, or no frames.
    """

    def __init__(self, frames: Tensor) -> None:
        if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.numel():
            raise InputError(f"video tensor: must be uint8 (T, H, W, 3), not {frames.dtype} {tuple(frames.shape)}")
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Tensor:
        return self.frames[index]

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.frames)


class IteratorFrames:
    """Stream of frames of unknown length, e.g. from a camera, a pipe or a generator.

    Args:
        frames: uint8 RGB (H, W, 3) each, torch or numpy.

    Raises:
        InputError: on reading, a frame has another type or size, or the stream is empty or has been read before.
    """

    def __init__(self, frames: Iterable[Tensor | np.ndarray]) -> None:
        self.frames = frames
        self._spent = False

    def __iter__(self) -> Iterator[Tensor]:
        frames = iter(self.frames)
        if frames is self.frames and self._spent:
            raise InputError("video stream: it has been read already; a stream can be read once")
        self._spent = True
        size: tuple[int, ...] | None = None
        for index, item in enumerate(frames):
            frame = _tensor(item)
            if frame.dtype != torch.uint8 or frame.ndim != 3 or frame.shape[-1] != 3:
                actual = f"{frame.dtype} {tuple(frame.shape)}"
                raise InputError(f"video stream: frame {index} must be uint8 RGB (H, W, 3), not {actual}")
            size = size or tuple(frame.shape)
            if tuple(frame.shape) != size:
                here = f"{frame.shape[0]}x{frame.shape[1]}, not {size[0]}x{size[1]} like the first"
                raise InputError(f"video stream: frame {index} is {here}; frames must have one size")
            yield frame
        if size is None:
            raise InputError("video stream: it ended without a frame")


def open_video(source: Source, id: str | None = None, fps: float | None = None, gaps: bool = False) -> Video:
    """Open a video.

    Args:
        source: a video file, a TIFF file of several pages, a folder of images, frames uint8 RGB (T, H, W, 3), or an
            iterable of frames (H, W, 3).
        id: name of the video; default: the name of the file or folder, or ``video``.
        fps: frame rate; default: that of the file, or 24.
        gaps: allow gaps in the numbering of a folder's images.

    Raises:
        InputError: the source cannot be read, or the frame rate is not a positive number; the message names it.
    """
    if fps is not None and not 0 < fps < float("inf"):
        raise InputError(f"fps {fps}: frames per second must be a positive number")
    names: Sequence[str] = ()
    frames: Frames
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.exists():
            raise InputError(f"{path}: no such video file or folder of frames")
        if path.is_dir():
            frames = ImageFolder(path, gaps=gaps)
            names, id = frames.names, id or path.resolve().name
        elif path.suffix.lower() in (".tif", ".tiff"):
            frames, id = ImageStack(path), id or path.stem
        else:
            frames = VideoFile(path)
            fps, id = fps or frames.fps, id or path.stem
    elif isinstance(source, Tensor | np.ndarray):
        frames = TensorFrames(_tensor(source))
    else:
        frames = IteratorFrames(source)
    return Video(id=id or "video", frames=frames, fps=fps or 24.0, names=names)


def _tensor(array: Tensor | np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)) if isinstance(array, np.ndarray) else array


def natural_order(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a sorting key by which numbers in names are compared as numbers: ``2`` before ``10``."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], name


def _first_hole(names: Sequence[str]) -> str | None:
    """Return the first name missing from names that are numbered at multiples of one step; None for other names."""
    parts = [re.fullmatch(r"(.*?)(\d+)", name) for name in names]
    if len({part and part[1] for part in parts}) != 1 or parts[0] is None:
        return None
    numbers = [int(part[2]) for part in parts if part]
    steps = [after - before for before, after in pairwise(numbers)]
    regular = min(steps, default=0)
    if regular < 1 or any(step % regular for step in steps):
        return None
    for number, step in zip(numbers, steps, strict=False):
        if step > regular:
            return f"{parts[0][1]}{number + regular:0{len(parts[0][2])}d}"
    return None
