"""Frame streams: cameras and pipes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import torch
from torch import Tensor

from common.errors import InputError
from common.video.video_file import rgb


def camera_frames(number: int) -> Iterator[Tensor]:
    """Yield frames uint8 RGB (H, W, 3) of a camera without end.

    Args:
        number: index of the camera.

    Raises:
        InputError: the camera does not exist, or it stops.
    """
    import cv2

    log = cv2.utils.logging
    before = log.setLogLevel(log.LOG_LEVEL_SILENT)  # otherwise OpenCV prints warnings before our error message
    camera = cv2.VideoCapture(number)
    log.setLogLevel(before)
    if not camera.isOpened():
        raise InputError(f"camera:{number}: no such camera, or another program uses it")
    try:
        while True:
            success, pixels = camera.read()
            if not success:
                raise InputError(f"camera:{number}: it gives no more frames")
            yield torch.from_numpy(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
    finally:
        camera.release()


def raw_frames(pipe: BinaryIO, size: tuple[int, int]) -> Iterator[Tensor]:
    """Yield frames uint8 RGB (H, W, 3) from raw pixels of three bytes (``-f rawvideo -pix_fmt rgb24`` in ffmpeg).

    Args:
        pipe: binary stream.
        size: (H, W).

    Raises:
        InputError: the pipe ends inside a frame.
    """
    height, width = size
    bytes_per_frame = height * width * 3
    number = 0
    while data := pipe.read(bytes_per_frame):
        if len(data) < bytes_per_frame:
            raise InputError(
                f"-: frame {number} breaks off after {len(data)} of {bytes_per_frame} bytes; is --raw right?"
            )
        yield torch.frombuffer(bytearray(data), dtype=torch.uint8).reshape(height, width, 3)
        number += 1


def piped_frames(pipe: BinaryIO) -> Iterator[Tensor]:
    """Yield frames uint8 RGB (H, W, 3) from a container that can be streamed, rotated according to its metadata.

    Such are MJPEG, MPEG-TS, Matroska, and MP4 whose index comes first.

    Args:
        pipe: binary stream.

    Raises:
        InputError: the stream is not a video, or is damaged.
    """
    import av

    number = 0
    try:
        with av.open(pipe) as container:
            for frame in container.decode(video=0):
                yield rgb(frame)
                number += 1
    except (av.FFmpegError, IndexError, OSError) as error:
        what = "not a video that can be read from a pipe" if number == 0 else f"breaks off at frame {number}"
        raise InputError(f"-: {what} ({error}); raw pixels need --raw WIDTHxHEIGHT") from error
