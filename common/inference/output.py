"""Output files: palette PNGs and overlay videos."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from common.video import FrameMasks, Video
from common.video.masks import VOID, masks_from_labels, read_label_map, without_overlap, write_label_map
from common.video.writers import overlay, write_video


def write_prediction(video: Video, answers: Iterable[FrameMasks], folder: Path) -> None:
    """Write ``<folder>/<video>/<frame>.png`` (palette) and ``<folder>/<video>.mp4`` (masks over frames).

    The overlay reads the video a second time, so that memory stays small however late the answers come. A stream can
    be read only once and gets no overlay.

    Args:
        video: the tracked video.
        answers: frames in order.
        folder: output folder.
    """
    for answer in answers:
        write_labels(answer, folder / video.id / f"{video.name(answer.frame)}.png")
    if video.length is not None:
        write_video(folder / f"{video.id}.mp4", overlays(video, folder / video.id), video.fps)


def write_labels(answer: FrameMasks, path: Path) -> None:
    """Write an answer as a palette PNG. Ids above 254 do not fit into a PNG and start again at 1.

    Where masks overlap, a pixel is that of the smallest, so that a nested target is seen.

    Args:
        answer: masks of one frame.
        path: of the PNG.
    """
    targets = tuple((target - 1) % (VOID - 1) + 1 for target in answer.targets)
    fitting = replace(answer, targets=targets, masks=without_overlap(answer.masks))
    write_label_map(path, fitting.label_map().cpu())


def overlays(video: Video, labels: Path, frames: Sequence[int] | None = None) -> Iterator[Tensor]:
    """Yield frames uint8 (H, W, 3) with the masks of ``<labels>/<frame>.png`` drawn over them.

    Args:
        video: the frames.
        labels: folder of palette PNGs.
        frames: indices; None = all.
    """
    for index, frame in enumerate(video) if frames is None else ((index, video[index]) for index in frames):
        label_map = read_label_map(labels / f"{video.name(index)}.png")
        targets = tuple(int(target) for target in torch.unique(label_map) if target)
        yield overlay(
            frame, FrameMasks(index, targets, masks_from_labels(label_map, targets), torch.ones(len(targets)))
        )
