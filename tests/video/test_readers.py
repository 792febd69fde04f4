"""Frames from folders, tensors and iterators, and everything that can be wrong with them."""

from __future__ import annotations

import pickle
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from common.video import ImageFolder, IteratorFrames, TensorFrames, open_video, read_image


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def pixels() -> np.ndarray:
    ramp = np.linspace(0, 255, 47).astype(np.uint8)
    return np.stack([np.tile(ramp, (33, 1)), np.tile(ramp[::-1], (33, 1)), np.full((33, 47), 77, np.uint8)], -1)


@pytest.fixture
def folder(tmp_path: Path, pixels: np.ndarray) -> Path:
    path = tmp_path / "walk"
    path.mkdir()
    for index in range(4):
        save(path / f"{index:05d}.png", np.roll(pixels, index, 1))
    return path


def test_folder_gives_frames_names_and_length(folder: Path, pixels: np.ndarray) -> None:
    (folder / "notes.txt").write_text("not a frame")
    (folder / "._00000.png").write_bytes(b"left by a file manager")
    video = open_video(folder)
    assert (video.id, video.fps, len(video), video.length) == ("walk", 24.0, 4, 4)
    assert list(video.names) == ["00000", "00001", "00002", "00003"]
    for index, frame in enumerate(video):
        assert frame.dtype == torch.uint8
        assert np.array_equal(frame.numpy(), np.roll(pixels, index, 1))
        assert torch.equal(video[index], frame)
    with pytest.raises(IndexError):
        video[4]


def test_folder_is_lazy_and_travels_to_a_worker(folder: Path) -> None:
    frames = ImageFolder(folder)
    (folder / "00003.png").unlink()
    copy = pickle.loads(pickle.dumps(frames))
    assert torch.equal(copy[1], frames[1])


def test_names_sort_as_numbers(tmp_path: Path, pixels: np.ndarray) -> None:
    for name in ("10", "9", "8", "11"):
        save(tmp_path / f"img{name}.png", pixels)
    assert ImageFolder(tmp_path).names == ["img8", "img9", "img10", "img11"]


def test_every_fifth_frame_is_no_hole(tmp_path: Path, pixels: np.ndarray) -> None:
    for index in (5, 10, 15):
        save(tmp_path / f"{index:05d}.png", pixels)
    assert len(ImageFolder(tmp_path)) == 3


def test_time_stamps_are_no_numbering(tmp_path: Path, pixels: np.ndarray) -> None:
    names = [str(1_700_000_000_000 + 33 * index + (index % 3 == 1)) for index in range(5)]
    for name in reversed(names):
        save(tmp_path / f"{name}.png", pixels)
    assert open_video(tmp_path).names == names


def test_numbers_longer_than_others_come_last(tmp_path: Path, pixels: np.ndarray) -> None:
    names = ["9999999999999", "10000000000000", "10000000000001"]
    for name in reversed(names):
        save(tmp_path / f"{name}.png", pixels)
    assert open_video(tmp_path, gaps=True).names == names


def test_files_that_macos_adds_are_skipped(tmp_path: Path, pixels: np.ndarray) -> None:
    save(tmp_path / "0.png", pixels)
    (tmp_path / "._0.png").write_bytes(b"litter")
    (tmp_path / ".DS_Store").write_bytes(b"litter")
    assert len(open_video(tmp_path)) == 1


def test_pages_of_a_tiff_file_are_frames(tmp_path: Path, pixels: np.ndarray, refuses) -> None:
    pages = [np.roll(pixels, shift, 0) for shift in range(4)]
    path = tmp_path / "stack.tif"
    Image.fromarray(pages[0]).save(path, save_all=True, append_images=[Image.fromarray(page) for page in pages[1:]])
    video = open_video(path)
    assert len(video) == 4
    assert np.array_equal(torch.stack(list(video)).numpy(), np.stack(pages))
    assert np.array_equal(video[2].numpy(), pages[2])
    with refuses(path, "4 pages"):
        read_image(path)
    Image.fromarray(pages[0]).save(path, save_all=True, append_images=[Image.fromarray(pages[1][:20])])
    with refuses(path, "page 1 is 20x47"):
        list(open_video(path))


@pytest.mark.parametrize("fps", [-5.0, 0.0, float("nan"), float("inf")])
def test_frame_rate_that_is_none(folder: Path, fps: float, refuses) -> None:
    with refuses("fps", "positive"):
        open_video(folder, fps=fps)


def test_one_frame_is_a_video(tmp_path: Path, pixels: np.ndarray) -> None:
    save(tmp_path / "0.jpg", pixels)
    video = open_video(tmp_path)
    assert len(video) == 1
    assert video[0].shape == (33, 47, 3)


def test_missing_frame_is_named(folder: Path, refuses) -> None:
    (folder / "00001.png").unlink()
    with refuses(folder, "frame 00001 is missing"):
        ImageFolder(folder)
    assert ImageFolder(folder, gaps=True).names == ["00000", "00002", "00003"]


def test_frame_that_goes_away_is_named(folder: Path, refuses) -> None:
    frames = ImageFolder(folder)
    (folder / "00002.png").unlink()
    with refuses(folder / "00002.png"):
        list(frames)


def test_unreadable_frame_is_named(folder: Path, refuses) -> None:
    (folder / "00002.png").unlink()
    (folder / "00002.png").mkdir()
    with refuses(folder / "00002.png"):
        ImageFolder(folder)[2]


def test_empty_folder_and_no_folder(tmp_path: Path, refuses) -> None:
    with refuses(tmp_path, "no frames"):
        open_video(tmp_path)
    with refuses(tmp_path / "gone"):
        open_video(tmp_path / "gone")
    with refuses(tmp_path / "gone"):
        ImageFolder(tmp_path / "gone")


def test_two_files_of_one_name(folder: Path, pixels: np.ndarray, refuses) -> None:
    save(folder / "00001.jpg", pixels)
    with refuses(folder, "00001"):
        ImageFolder(folder)
    assert ImageFolder(folder, suffixes=(".jpg",)).names == ["00001"]


def test_frame_of_another_size_is_named(folder: Path, pixels: np.ndarray, refuses) -> None:
    save(folder / "00002.png", pixels[:20])
    with refuses(folder / "00002.png", "20x47", "33x47", "00000.png"):
        list(ImageFolder(folder))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_every_kind_of_image_becomes_rgb(tmp_path: Path, pixels: np.ndarray, mode: str) -> None:
    image = Image.fromarray(pixels).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    assert np.array_equal(read_image(path).numpy(), np.array(image.convert("RGB")))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_keeps_its_high_byte(tmp_path: Path, suffix: str, channels: int) -> None:
    deep = np.array([0, 255, 256, 4660, 65535], np.uint16)
    deep = np.stack([np.roll(deep, k) for k in range(channels)], -1)[None]
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), deep)
    expected = np.broadcast_to(np.array([0, 0, 1, 18, 255], np.uint8)[:, None], (5, 3))
    if channels == 3:  # the file was written as BGR
        expected = np.stack([np.roll(expected[:, 0], k) for k in (2, 1, 0)], -1)
    assert np.array_equal(read_image(tmp_path / f"a.{suffix}").numpy(), expected[None])


def test_32_bit_and_floating_point_images_are_refused(tmp_path: Path, refuses) -> None:
    with refuses("a.tif", "floating-point"):
        read_image(save(tmp_path / "a.tif", np.ones((4, 4), np.float32)))
    with refuses("b.tif", "32-bit"):
        read_image(save(tmp_path / "b.tif", np.full((4, 4), 70000, np.int32)))


def test_jpeg_is_read_as_pillow_reads_it(tmp_path: Path, pixels: np.ndarray) -> None:
    for name, image in {"rgb": Image.fromarray(pixels), "grey": Image.fromarray(pixels[..., 0])}.items():
        image.save(tmp_path / f"{name}.jpg", quality=90)
        with Image.open(tmp_path / f"{name}.jpg") as expected:
            difference = read_image(tmp_path / f"{name}.jpg").numpy().astype(int) - np.array(expected.convert("RGB"))
        assert abs(difference).max() <= 2  # two JPEG decoders may round differently


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_orientation_is_applied(tmp_path: Path, pixels: np.ndarray, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate clockwise to see it upright
    path = save(tmp_path / f"a.{suffix}", pixels, exif=exif, **({"quality": 98} if suffix == "jpg" else {}))
    frame = read_image(path).numpy().astype(int)
    assert frame.shape == (47, 33, 3)
    assert abs(frame - np.rot90(pixels, -1)).max() < 16


@pytest.mark.parametrize("keep", [0, 3, 60, 0.5, -2])
def test_truncated_jpeg_is_named(tmp_path: Path, pixels: np.ndarray, keep: float, refuses) -> None:
    path = save(tmp_path / "00007.jpg", pixels)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if keep == 0.5 else int(keep)])
    with refuses(path):
        read_image(path)


def test_corrupt_jpeg_is_named(tmp_path: Path, pixels: np.ndarray, refuses) -> None:
    path = save(tmp_path / "00007.jpg", pixels)
    data = path.read_bytes()
    path.write_bytes(data[:2] + bytes(len(data) - 4) + data[-2:])  # both markers in place, nothing between them
    with refuses(path):
        read_image(path)


def test_trailing_bytes_do_not_matter(tmp_path: Path, pixels: np.ndarray) -> None:
    path = save(tmp_path / "a.jpg", pixels)
    whole = read_image(path)
    path.write_bytes(path.read_bytes() + bytes(5))
    assert torch.equal(read_image(path), whole)


def test_corrupt_png_is_named(tmp_path: Path, pixels: np.ndarray, refuses) -> None:
    path = save(tmp_path / "a.png", pixels)
    data = bytearray(path.read_bytes())
    data[50:60] = bytes(10)
    path.write_bytes(data)
    with refuses(path):
        read_image(path)


def test_tensor_and_array_are_videos() -> None:
    frames = torch.arange(2 * 3 * 5 * 3, dtype=torch.uint8).reshape(2, 3, 5, 3)
    for source in (frames, frames.numpy()):
        video = open_video(source, id="t", fps=10)
        assert (video.id, video.fps, len(video), video.name(1)) == ("t", 10, 2, "00001")
        assert torch.equal(torch.stack(list(video)), frames)
    flipped = open_video(frames.numpy()[..., ::-1])  # BGR to RGB: a view that torch cannot share
    assert torch.equal(flipped[0], frames[0].flip(-1))


def test_tensor_of_another_kind_is_refused(refuses) -> None:
    for wrong in (torch.zeros(2, 3, 4, 5, dtype=torch.uint8), torch.zeros(2, 4, 5, 3), torch.zeros(0, 4, 5, 3).byte()):
        with refuses("uint8 (T, H, W, 3)", tuple(wrong.shape)):
            TensorFrames(wrong)


def test_stream_has_no_length_and_is_lazy() -> None:
    asked = []

    def camera():
        while True:
            asked.append(1)
            yield np.full((5, 7, 3), len(asked), np.uint8)

    video = open_video(camera())
    assert video.length is None
    with pytest.raises(TypeError):
        len(video)
    assert [int(frame[0, 0, 0]) for frame in islice(video, 3)] == [1, 2, 3]
    assert len(asked) == 3


def test_stream_is_read_once_and_a_list_often(refuses) -> None:
    frames = [torch.zeros(2, 2, 3, dtype=torch.uint8)] * 2
    stream = IteratorFrames(iter(frames))
    assert len(list(stream)) == 2
    with refuses("stream", "once"):
        list(stream)
    often = IteratorFrames(frames)
    assert len(list(often)) == len(list(often)) == 2


def test_wrong_frames_in_a_stream_are_named(refuses) -> None:
    good = np.zeros((4, 6, 3), np.uint8)
    with refuses("frame 1", "4x5", "4x6"):
        list(IteratorFrames([good, good[:, :5]]))
    for wrong in (good[..., 0], good.astype(np.float32), good.transpose(2, 0, 1)):
        with refuses("frame 2", "uint8 RGB (H, W, 3)"):
            list(IteratorFrames([good, good, wrong]))
    with refuses("stream", "without a frame"):
        list(IteratorFrames([]))
