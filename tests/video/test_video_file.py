"""Frames of video files: order, random access, rotation, and files that break off."""

from __future__ import annotations

import os
import pickle
import weakref
from pathlib import Path
from select import select

import av
import pytest
import torch
from torch import Tensor

from common.video import VideoFile, open_video
from common.video.streams import piped_frames

CODECS = {
    "b_frames.mp4": ("libx264", "yuv420p", {"g": "8", "x264-params": "bframes=3:b-adapt=0"}),
    "open_gop.mp4": ("libx264", "yuv420p", {"g": "8", "x264-params": "open-gop=1"}),
    "a.mkv": ("libx264", "yuv420p", {"g": "8"}),
    "a.ts": ("libx264", "yuv420p", {"g": "8"}),
    "a.h264": ("libx264", "yuv420p", {"g": "8"}),  # no time stamps at all
    "vp8.webm": ("libvpx", "yuv420p", {"g": "8", "b": "8M"}),
    "a.avi": ("mpeg4", "yuv420p", {"g": "8", "b": "8M"}),
    "b_frames.avi": ("libx264", "yuv420p", {"g": "8", "bf": "3"}),  # whose time stamps do not ascend
    "12:30:00.mp4": ("libx264", "yuv420p", {"g": "8"}),
}


def write(path: Path, frames: Tensor, codec: str, pixel_format: str, options: dict[str, str]) -> Path:
    mux = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=mux) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.numpy(), format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def noisy(clip: Tensor) -> Tensor:
    """A clip whose frames take most of the file's bytes."""
    noise = torch.randint(0, 120, (30, 96, 128, 3), generator=torch.Generator().manual_seed(0))
    return (clip.repeat(1, 2, 2, 1) // 2 + noise).to(torch.uint8)


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


@pytest.mark.parametrize("name", CODECS)
def test_random_access_gives_the_frame_of_the_stream(tmp_path: Path, clip: Tensor, name: str) -> None:
    video = open_video(write(tmp_path / name, clip, *CODECS[name]))
    stream = list(video)
    assert len(video) == len(stream) == 30
    assert video.fps == 25
    assert (torch.stack(stream).float() - clip.float()).abs().mean() < 8
    for index in (17, 3, 4, 5, 29, 0, 8, 7, 16, 15, -1):
        assert torch.equal(video[index], stream[index]), index
    with pytest.raises(IndexError):
        video[30]


@pytest.mark.parametrize("name", ["a.ts", "a.mkv"])
def test_recording_that_begins_between_keyframes(tmp_path: Path, clip: Tensor, name: str) -> None:
    whole = write(tmp_path / f"whole{Path(name).suffix}", clip, "libx264", "yuv420p", {"g": "8", "bf": "3"})
    with av.open(str(whole)) as source, av.open(str(tmp_path / name), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if number >= 5 and packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    video, every = open_video(tmp_path / name), list(open_video(tmp_path / name))
    assert 15 < len(every) < 30
    assert len(video) == len(every)
    for index in (0, len(every) - 1, 7, 3):
        assert torch.equal(video[index], every[index]), index


def test_matroska_that_starts_late(tmp_path: Path, clip: Tensor) -> None:
    whole = write(tmp_path / "whole.mkv", clip, "libx264", "yuv420p", {"g": "8", "bf": "0"})
    with av.open(str(whole)) as source, av.open(str(tmp_path / "late.mkv"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts + 50_000, packet.dts + 50_000, stream
                target.mux(packet)
    assert all(map(torch.equal, open_video(tmp_path / "late.mkv"), open_video(whole)))
    assert torch.equal(open_video(tmp_path / "late.mkv")[20], open_video(whole)[20])


def test_reading_on_decodes_every_frame_once(tmp_path: Path, clip: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = VideoFile(write(tmp_path / "a.mp4", clip, *CODECS["b_frames.mp4"]))
    opened = []
    whole = VideoFile._open
    monkeypatch.setattr(VideoFile, "_open", lambda self: opened.append(1) or whole(self))
    for index in range(2, 12):
        frames[index]
    assert len(opened) == 2  # one to list the packets, one to decode


def test_file_travels_to_workers(tmp_path: Path, noisy: Tensor) -> None:
    frames = VideoFile(write(tmp_path / "a.mp4", noisy, *CODECS["b_frames.mp4"]))
    expected = [frame.clone() for frame in frames]
    frames[4]
    copy = pickle.loads(pickle.dumps(frames))
    assert torch.equal(copy[5], expected[5])
    read, write_end = os.pipe()
    if (child := os.fork()) == 0:  # as a DataLoader does: it must not move the parent's position in the file
        os.write(write_end, bytes([all(torch.equal(frames[i], expected[i]) for i in (5, 6, 20, 29))]))
        os._exit(0)
    assert select([read], [], [], 20)[0], "the worker hangs"
    assert os.read(read, 1) == b"\x01"
    os.waitpid(child, 0)
    assert all(torch.equal(frames[i], expected[i]) for i in (5, 6, 7))


def test_iterating_keeps_no_frames(tmp_path: Path, clip: Tensor) -> None:
    frames = VideoFile(write(tmp_path / "a.mp4", clip, *CODECS["b_frames.mp4"]))
    seen = []
    for frame in frames:
        seen.append(weakref.ref(frame))
        assert sum(ref() is not None for ref in seen) <= 2


def test_odd_size_and_one_frame(tmp_path: Path, clip: Tensor) -> None:
    odd = clip[:1, :33, :47].contiguous()
    video = open_video(write(tmp_path / "odd.mkv", odd, "ffv1", "bgr0", {}))  # lossless
    assert len(video) == 1
    assert torch.equal(video[0], odd[0])
    assert torch.equal(next(iter(video)), odd[0])


def test_phone_video_is_turned_upright(tmp_path: Path, clip: Tensor) -> None:
    path = write(tmp_path / "phone.mp4", clip[:3], *CODECS["b_frames.mp4"])
    flat = list(VideoFile(path))
    data = path.read_bytes()
    word = {value: (value << 16).to_bytes(4, "big", signed=True) for value in (-1, 0, 1)}
    upright = b"".join((word[1], word[0], bytes(4), word[0], word[1]))
    turned = b"".join((word[0], word[1], bytes(4), word[-1], word[0]))  # shown a quarter turn clockwise
    track = data.index(upright, data.index(b"tkhd"))
    path.write_bytes(data[:track] + turned + data[track + len(turned) :])
    for frame, expected in zip(VideoFile(path), flat, strict=True):
        assert torch.equal(frame, torch.rot90(expected, -1))
    with path.open("rb") as pipe:
        assert all(map(torch.equal, piped_frames(pipe), VideoFile(path)))


@pytest.mark.parametrize("name", ["b_frames.mp4", "a.mkv", "vp8.webm", "a.avi"])
def test_truncated_file_gives_what_decodes_then_names_the_frame(
    tmp_path: Path, clip: Tensor, name: str, refuses
) -> None:
    path = write(tmp_path / name, clip, *CODECS[name])
    whole, data = list(VideoFile(path)), path.read_bytes()
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for position, size in packets[5:14]:
        path.write_bytes(data[: position + size // 2])
        got: list[Tensor] = []
        with refuses(path, "breaks off at frame"):
            got.extend(iter(VideoFile(path)))  # keeps what came before the error
        assert 0 < len(got) < 14
        assert all(torch.equal(frame, expected) for frame, expected in zip(got, whole, strict=False))
        with refuses(path, f"breaks off at frame {len(got)} "):
            list(VideoFile(path))
        assert len(got) <= len(VideoFile(path)) < 14


def test_truncated_before_its_index(tmp_path: Path, clip: Tensor, refuses) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:  # the index comes last
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(clip[0].numpy(), format="rgb24")))
        container.mux(stream.encode())
    with refuses(path, "truncated"):
        open_video(cut(path, 0.6))


def test_damage_inside_a_file_names_the_frame(tmp_path: Path, noisy: Tensor, refuses) -> None:
    path = write(tmp_path / "a.avi", noisy, *CODECS["a.avi"])
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(range(200)) * 2
    path.write_bytes(data)
    with refuses(path, "frame "):
        list(VideoFile(path))


def test_not_a_video(tmp_path: Path, refuses) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("not a video at all")
    with refuses(path):
        open_video(path)
    with refuses(tmp_path / "none.mp4", "no such video"):
        VideoFile(tmp_path / "none.mp4")


def test_sound_alone_is_not_a_video(tmp_path: Path, refuses) -> None:
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(torch.zeros(1, 800, dtype=torch.int16).numpy(), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with refuses(path, "no video"):
        open_video(path)
