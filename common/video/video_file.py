"""Frames of a video file, decoded on access by PyAV."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from common.errors import InputError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

# Containers that store a time stamp for every displayed frame; the frames of others are counted by decoding them once.
INDEXED = {"mov", "mp4", "matroska", "webm"}
# A file that ends this many seconds before the duration in its header is truncated; less may be due to rounding.
MISSING_SECONDS = 0.5


class VideoFile:
    """Lazy frames of a video file, uint8 RGB (H, W, 3), rotated according to the file's metadata.

    Iteration streams through the file in constant memory. ``frames[i]`` returns exactly frame i: it decodes from the
    preceding keyframe, or continues from the last accessed frame if that is closer. ``len`` and ``frames[i]`` first
    read the list of packets, without decoding. Where packets do not tell which frames will be displayed (AVI, MPEG-TS,
    VP8, recordings that begin between keyframes), they decode the file once instead; if its time stamps do not ascend
    (B-frames in AVI), every access that goes back decodes from the beginning.

    A truncated or damaged file yields the frames that can be decoded, then raises. Truncation cannot be detected in
    containers without duration (MPEG-TS, raw H.264), nor in the last half second of Matroska.

    Args:
        path: the file.

    Attributes:
        fps: average frame rate.

    Raises:
        InputError: the file is missing, contains no video, or is truncated; the message names the file and the frame.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._cursor: _Cursor | None = None
        with self._open() as container:
            self.fps = float(_stream(container).average_rate or 24)

    def __len__(self) -> int:
        return len(self._index.stamps)

    def __iter__(self) -> Iterator[Tensor]:
        return map(rgb, self._decode())

    def __getitem__(self, index: int) -> Tensor:
        index = range(len(self))[index]
        for cursor in self._cursors(index):
            for frame in cursor.frames:
                number = self._index.number(frame, cursor.next_frame)
                cursor.next_frame = number + 1
                if number == index:
                    self._cursor = cursor
                    return rgb(frame)
                if number > index:
                    break
        raise InputError(f"{self.path}: frame {index} does not decode; re-encode the file")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cursor": None}

    def _cursors(self, index: int) -> Iterator[_Cursor]:
        """Yield decoders from which a frame can be reached, the nearest first."""
        first, dts = self._index.keyframe(index)
        cursor, self._cursor = self._cursor, None
        # A forked worker must not continue with its parent's open file: they share the read position.
        if cursor and cursor.process == os.getpid() and first <= cursor.next_frame <= index:
            yield cursor
        if dts is not None:
            yield _Cursor(os.getpid(), first, self._decode(first, dts))
        yield _Cursor(os.getpid(), 0, self._decode())

    def _decode(self, first: int = 0, dts: int | None = None) -> Iterator[VideoFrame]:
        """Yield frames in display order, from frame ``first``, a keyframe whose packet has this ``dts``.

        A single thread is used, here and in ``rgb``: a forked worker cannot close a decoder with several threads, and
        at 854x480 a second thread gives no speed-up.
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
                        continue  # displayed before the keyframe, coded after it: its references were not read
                    size = size or (frame.height, frame.width)
                    if frame.is_corrupt:
                        raise InputError(f"{self.path}: frame {number} is damaged; re-encode or replace the file")
                    if (frame.height, frame.width) != size:
                        shape = f"{frame.height}x{frame.width}, not {size[0]}x{size[1]} like the first"
                        raise InputError(f"{self.path}: frame {number} is {shape}; re-encode the file at one size")
                    yield frame
                    number += 1
            except (_TruncatedError, av.FFmpegError) as error:
                reason = error.strerror if isinstance(error, av.FFmpegError) else str(error)
                raise InputError(f"{self.path}: breaks off at frame {number} ({reason}); replace the file") from error
            if number == 0:
                raise InputError(f"{self.path}: there are no frames in this video")

    def _open(self) -> InputContainer:
        import av

        if not self.path.is_file():
            raise InputError(f"{self.path}: no such video file")
        try:
            # "file:", since FFmpeg takes what is before a colon for a protocol
            container = av.open(f"file:{self.path}")
        except (av.FFmpegError, OSError) as error:
            raise InputError(f"{self.path}: not a readable video ({error.strerror}); is it truncated?") from error
        if container.streams.best("video") is None:
            container.close()
            raise InputError(f"{self.path}: there is no video in this file")
        return container

    @cached_property
    def _index(self) -> _Index:
        packets = []
        with self._open() as container:
            stream = _stream(container)
            # not every packet of VP8 is a displayed frame
            indexed = bool(INDEXED & set(container.format.name.split(","))) and stream.codec_context.name != "vp8"
            with suppress(_TruncatedError):
                for packet in _packets(container, stream):
                    if not packet.is_discard:
                        packets.append((packet.pts, packet.dts, packet.is_keyframe))
        stamps = sorted({pts for pts, _, _ in packets if pts is not None})
        keys = sorted((p, d) for p, d, key in packets if key and p is not None and d is not None)
        # otherwise the file begins with frames whose references are missing
        starts_at_key = bool(keys) and packets[0][2] and packets[0][0] == stamps[0]
        if indexed and starts_at_key and len(stamps) == len(packets):
            return _Index(stamps, keys)
        shown = self._decoded_stamps()
        ascending = all(a is not None and b is not None and a < b for a, b in pairwise([-(2**63), *shown]))
        if not ascending or not set(shown) <= set(stamps):
            return _Index(range(len(shown)), [])
        places = set(shown)
        return _Index([stamp for stamp in shown if stamp is not None], [key for key in keys if key[0] in places])

    def _decoded_stamps(self) -> list[int | None]:
        """Return the time stamps of the frames that decode; reading beyond them reports the error."""
        stamps = []
        with suppress(InputError):
            for frame in self._decode():
                stamps.append(frame.pts)
        return stamps


@dataclass
class _Index:
    """Index of a file.

    Attributes:
        stamps: time stamps (pts) of all frames in display order; a range if they are unreliable.
        keys: (pts, dts) of the keyframes.
    """

    stamps: list[int] | range
    keys: list[tuple[int, int]]

    def keyframe(self, index: int) -> tuple[int, int | None]:
        """Return index and dts of the last keyframe at or before a frame; (0, None) is the beginning of the file.

        Args:
            index: frame index.
        """
        position = bisect_right(self.keys, self.stamps[index], key=lambda key: key[0])
        if not position:
            return 0, None
        pts, dts = self.keys[position - 1]
        return bisect_left(self.stamps, pts), dts

    def number(self, frame: VideoFrame, next_frame: int) -> int:
        return next_frame if isinstance(self.stamps, range) else bisect_left(self.stamps, frame.pts or 0)


@dataclass
class _Cursor:
    """An open decoder.

    Attributes:
        process: id of the process that opened it.
        next_frame: index of the frame that it returns next.
        frames: the decoded frames.
    """

    process: int
    next_frame: int
    frames: Iterator[VideoFrame]


class _TruncatedError(Exception):
    """The file ends before its stated duration."""


def _stream(container: InputContainer) -> VideoStream:
    stream = container.streams.best("video")
    assert stream is not None  # checked by ``_open``
    return stream  # type: ignore[return-value]


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """Yield the packets of a stream. All streams are read, since the duration is that of the longest one."""
    import av

    end = 0.0
    try:
        for packet in container.demux():
            if packet.size == 0 and packet.dts is None:
                continue  # marks the end of a stream
            if packet.is_corrupt:
                raise _TruncatedError("incomplete data")
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream.index == stream.index:
                yield cast("Packet[VideoStream]", packet)
    except av.FFmpegError as error:
        raise _TruncatedError(error.strerror) from error
    if "matroska" not in container.format.name:  # whose duration is counted from time 0
        end -= (container.start_time or 0) / av.time_base
    stated = (container.duration or 0) / av.time_base
    last = float(1 / stream.average_rate) if stream.average_rate else 0.0  # the last frame's duration may be missing
    if end < stated - last - MISSING_SECONDS:
        raise _TruncatedError(f"{end:.1f} of {stated:.1f} seconds are there")


def _frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Yield decoded frames; of a truncated file those before the end, then raise ``_TruncatedError``."""
    last: int | None = None
    truncation: _TruncatedError | None = None
    try:
        for packet in _packets(container, stream):
            yield from packet.decode()
            last = packet.dts
    except _TruncatedError as error:
        truncation = error
    for frame in stream.codec_context.decode(None):
        # Packets are ordered by dts <= pts, so a frame beyond the last dts may have a missing predecessor.
        if not truncation or last is None or frame.pts is None or frame.pts <= last:
            yield frame
    if truncation:
        raise truncation


def rgb(frame: VideoFrame) -> Tensor:
    """Convert a decoded frame to uint8 RGB (H, W, 3), rotated according to its metadata."""
    pixels = torch.from_numpy(frame.to_ndarray(format="rgb24", threads=1))
    return torch.rot90(pixels, round(frame.rotation / 90)).contiguous()
