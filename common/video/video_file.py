"""Frames of a video file, decoded by PyAV when they are asked for."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from common.errors import InputError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

# A file that ends this many seconds before its header says is truncated; less may be a rounded header.
MISSING_SECONDS = 0.5


class VideoFile:
    """A video file as lazy frames, uint8 RGB (H, W, 3), turned upright as the file says.

    Iterating streams through the file in constant memory. ``frames[i]`` gives exactly frame i: it decodes from the
    keyframe before it, or goes on from the last frame asked for where that is nearer. ``len`` and ``frames[i]`` first
    list the file's packets, without decoding them.

    A truncated or damaged file yields the frames that decode, then raises. A container that does not state its length
    (MPEG-TS, raw H.264) can lose its end unnoticed, and Matroska its last half second.

    Attributes:
        path: the file.
        fps: average frame rate.

    Raises:
        InputError: no such file, no video in it, or it breaks off; the message names the file and the frame.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._cursor: _Cursor | None = None
        with self._open() as container:
            self.fps = float(_stream(container).average_rate or 24)

    def __len__(self) -> int:
        return len(self._index.stamps)

    def __iter__(self) -> Iterator[Tensor]:
        return map(_rgb, self._decode())

    def __getitem__(self, index: int) -> Tensor:
        index = range(len(self))[index]
        for cursor in self._cursors(index):
            for frame in cursor.frames:
                number = self._index.number(frame, cursor.following)
                cursor.following = number + 1
                if number == index:
                    self._cursor = cursor
                    return _rgb(frame)
                if number > index:
                    break
        raise InputError(f"{self.path}: frame {index} does not decode; re-encode the file")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cursor": None}

    def _cursors(self, index: int) -> Iterator[_Cursor]:
        """Where to decode from to reach a frame, the nearest place first."""
        first, dts = self._index.keyframe(index)
        cursor, self._cursor = self._cursor, None
        # A forked worker must not go on with its parent's open file: they share one read position.
        if cursor and cursor.process == os.getpid() and first <= cursor.following <= index:
            yield cursor
        if dts is not None:
            yield _Cursor(os.getpid(), first, self._decode(first, dts))
        yield _Cursor(os.getpid(), 0, self._decode())

    def _decode(self, first: int = 0, dts: int | None = None) -> Iterator[VideoFrame]:
        """Frames in display order, from frame ``first``, a keyframe whose packet has this ``dts``.

        One thread, here and in ``_rgb``: a forked worker could never let go of a decoder that has more, and for
        854x480 a second one gained nothing.
        """
        import av

        with self._open() as container:
            stream, number, size = _stream(container), first, None
            stream.codec_context.thread_count = 1
            if dts is not None:
                container.seek(dts, stream=stream)
            try:
                for frame in _frames(container, stream):
                    if dts is not None and (frame.pts or 0) < self._index.stamps[first]:
                        continue  # shown before the keyframe, coded after it: what it refers to was not read
                    size = size or (frame.height, frame.width)
                    if frame.is_corrupt:
                        raise InputError(f"{self.path}: frame {number} is damaged; re-encode or replace the file")
                    if (frame.height, frame.width) != size:
                        shape = f"{frame.height}x{frame.width}, not {size[0]}x{size[1]} like the first"
                        raise InputError(f"{self.path}: frame {number} is {shape}; re-encode the file at one size")
                    yield frame
                    number += 1
            except (_CutOff, av.FFmpegError) as error:
                reason = error.strerror if isinstance(error, av.FFmpegError) else str(error)
                raise InputError(f"{self.path}: breaks off at frame {number} ({reason}); replace the file") from error
            if number == 0:
                raise InputError(f"{self.path}: there are no frames in this video")

    def _open(self) -> InputContainer:
        import av

        if not self.path.is_file():
            raise InputError(f"{self.path}: no such video file")
        try:
            container = av.open(str(self.path))
        except (av.FFmpegError, OSError) as error:
            raise InputError(f"{self.path}: not a readable video ({error.strerror}); is it truncated?") from error
        if container.streams.best("video") is None:
            container.close()
            raise InputError(f"{self.path}: there is no video in this file")
        return container

    def _count(self) -> int:
        number = 0
        with suppress(InputError):  # what is there counts; reading the frame after it will say what is wrong
            for _ in self._decode():
                number += 1
        return number

    @cached_property
    def _index(self) -> _Index:
        packets = []
        with self._open() as container:
            stream = _stream(container)
            hides_packets = stream.codec_context.name == "vp8"  # its packets are not all shown
            with suppress(_CutOff):
                for packet in _packets(container, stream):
                    if not packet.is_discard:
                        packets.append((packet.pts, packet.dts, packet.is_keyframe))
        stamps = sorted({pts for pts, _, _ in packets if pts is not None})
        if hides_packets or len(stamps) < len(packets):
            return _Index(range(self._count()), [])
        return _Index(stamps, sorted((p, d) for p, d, key in packets if key and p is not None and d is not None))


@dataclass
class _Index:
    """Time stamps of all frames in display order and (pts, dts) of the keyframes; a range where stamps are no use."""

    stamps: list[int] | range
    keys: list[tuple[int, int]]

    def keyframe(self, index: int) -> tuple[int, int | None]:
        """Number and dts of the last keyframe at or before a frame; (0, None) means the beginning of the file."""
        at = bisect_right(self.keys, self.stamps[index], key=lambda key: key[0])
        return (bisect_left(self.stamps, self.keys[at - 1][0]), self.keys[at - 1][1]) if at else (0, None)

    def number(self, frame: VideoFrame, following: int) -> int:
        return following if isinstance(self.stamps, range) else bisect_left(self.stamps, frame.pts or 0)


@dataclass
class _Cursor:
    """An open decoder: the process that opened it, and the number of the frame that it gives next."""

    process: int
    following: int
    frames: Iterator[VideoFrame]


class _CutOff(Exception):
    """The file ends before it should."""


def _stream(container: InputContainer) -> VideoStream:
    stream = container.streams.best("video")
    assert stream is not None  # _open has seen to it
    return stream  # type: ignore[return-value]


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    """The stream's packets. All streams are read, for the file ends where the longest of them does."""
    import av

    end = 0.0
    try:
        for packet in container.demux():
            if packet.size == 0 and packet.dts is None:
                continue  # marks the end of a stream
            if packet.is_corrupt:
                raise _CutOff("incomplete data")
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream.index == stream.index:
                yield packet
    except av.FFmpegError as error:
        raise _CutOff(error.strerror) from error
    end -= (container.start_time or 0) / av.time_base
    stated = (container.duration or 0) / av.time_base
    last = float(1 / stream.average_rate) if stream.average_rate else 0.0  # how long it shows is not always stored
    if end < stated - last - MISSING_SECONDS:
        raise _CutOff(f"{end:.1f} of {stated:.1f} seconds are there")


def _frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Decoded frames; where the file is cut off, those before the cut, then ``_CutOff``."""
    last: int | None = None
    cut: _CutOff | None = None
    try:
        for packet in _packets(container, stream):
            yield from packet.decode()
            last = packet.dts
    except _CutOff as error:
        cut = error
    for frame in stream.codec_context.decode(None):
        # Packets come in the order of dts <= pts, so beyond the last dts a frame may be missing before this one.
        if not cut or last is None or frame.pts is None or frame.pts <= last:
            yield frame
    if cut:
        raise cut


def _rgb(frame: VideoFrame) -> Tensor:
    pixels = torch.from_numpy(frame.to_ndarray(format="rgb24", threads=1))
    return torch.rot90(pixels, round(frame.rotation / 90)).contiguous()
