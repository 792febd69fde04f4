"""DAVIS of a few pixels, and answers to it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from common.benchmarks.base import Benchmark
from common.video import FrameMasks, Video
from common.video.masks import write_label_map

SIZE = (12, 16)


def squares(frames: int = 6, ids: tuple[int, ...] = (1, 2)) -> Tensor:
    """Label maps uint8 (T, H, W) with one 3 by 3 square for each id, moving to the right."""
    maps = torch.zeros(frames, *SIZE, dtype=torch.uint8)
    for index in range(frames):
        for row, target in enumerate(ids):
            maps[index, 4 * row : 4 * row + 3, index : index + 3] = target
    return maps


def make_davis(root: Path, labels: dict[str, Tensor], year: int = 2017) -> Path:
    """A DAVIS folder of label maps uint8 (T, H, W)."""
    for name, maps in labels.items():
        folder = root / "JPEGImages" / "480p" / name
        folder.mkdir(parents=True)
        for index, label in enumerate(maps):
            Image.new("RGB", (label.shape[1], label.shape[0])).save(folder / f"{index:05d}.jpg")
            write_label_map(root / "Annotations" / "480p" / name / f"{index:05d}.png", label)
    lists = root / "ImageSets" / str(year)
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("\n".join(labels) + "\n")
    return root


def make(root: Path, name: str) -> None:
    """Write ``davis2016`` or ``davis2017`` into ``root``, the latter with a ``test-dev`` that hides its annotations."""
    year = int(name.removeprefix("davis"))
    make_davis(root, {"duck": squares(5), "swing": squares(6, (1,))}, year)
    if year == 2017:
        hidden = make_davis(root / "hidden", {"boat": squares(4)})
        for path in (hidden / "Annotations/480p/boat").iterdir():
            if path.stem != "00000":
                path.unlink()
        (hidden / "ImageSets/2017/val.txt").rename(root / "ImageSets/2017/test-dev.txt")
        for kind in ("JPEGImages", "Annotations"):
            (hidden / kind / "480p" / "boat").rename(root / kind / "480p" / "boat")
        shutil.rmtree(hidden)


def late(video: Video) -> Iterator[FrameMasks]:
    """Every frame is answered by the annotation of the one before; the last target is said to be gone at the end."""
    assert video.truth is not None
    for frame in range(len(video)):
        masks = video.truth[max(frame - 1, 0)]
        assert masks is not None
        targets = video.targets if frame < 4 else video.targets[:-1]
        yield FrameMasks(frame, targets, masks[: len(targets)], torch.ones(len(targets)))


def submit(benchmark: Benchmark, folder: Path) -> dict[str, dict[str, Tensor]]:
    """Write a submission of ``late`` answers; what they measure, by video."""
    return {video.id: benchmark.measure(video, benchmark.write(video, late(video), folder)) for video in benchmark}
