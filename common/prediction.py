"""Masks and an overlay for a video that nobody scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from common.video import FrameMasks, Video
from common.video.masks import masks_from_labels, read_label_map, write_label_map
from common.video.writers import overlay, write_video


def write_prediction(video: Video, answers: Iterable[FrameMasks], folder: Path) -> None:
    """Write ``<folder>/<video>/<frame>.png`` (palette) and ``<folder>/<video>.mp4`` (masks over frames).

    The overlay reads the video a second time, so memory stays small however late the answers come; a stream, which
    can be read once, gets no overlay.
    """
    for answer in answers:
        write_label_map(_path(video, answer.frame, folder), answer.label_map().cpu())
    if video.length is not None:
        write_video(folder / f"{video.id}.mp4", _overlays(video, folder), video.fps)


def _overlays(video: Video, folder: Path) -> Iterator[Tensor]:
    for index, frame in enumerate(video):
        labels = read_label_map(_path(video, index, folder))
        targets = tuple(int(target) for target in labels.unique() if target)
        masks = FrameMasks(index, targets, masks_from_labels(labels, targets), torch.ones(len(targets)))
        yield overlay(frame, masks)


def _path(video: Video, frame: int, folder: Path) -> Path:
    return folder / video.id / f"{video.name(frame)}.png"
