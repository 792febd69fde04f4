"""The smallest method that trains, and a benchmark with a broken video."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from common.benchmarks.tiny.videos import Tiny
from common.data.clip import Clip
from common.errors import InputError
from common.segmenter import VideoSegmenter
from common.video import Video
from methods.baselines.baselines import CopySession


class Toy(VideoSegmenter):
    """Learns foreground by colour; answers like the copy baseline.

    Args:
        width: channels.
    """

    def __init__(self, width: int = 4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = nn.Sequential(nn.Conv2d(3, width, 1), nn.ReLU(), nn.Conv2d(width, 1, 1))
        self.width = width
        self.load_weights()

    def architecture(self) -> dict[str, Any]:
        return {"width": self.width}

    def session(self, length: int | None = None) -> CopySession:
        return CopySession()

    def losses(self, clip: Clip) -> dict[str, Tensor]:
        logits = self.network(clip.frames.flatten(0, 1) / 255)
        target = clip.masks.any(2).flatten(0, 1)[:, None].float()
        return {"mask": binary_cross_entropy_with_logits(logits, target), "size": logits.square().mean()}


class OtherToy(Toy):
    """Another class with the same weights."""


class BrokenVideo(Tiny):
    """The second of three videos breaks off at its fourth frame; the third cannot be opened where ``closed``.

    Args:
        closed: whether the third video can be opened.
    """

    def __init__(self, closed: bool = False) -> None:
        super().__init__(videos=3, frames=6, size=(32, 32))
        self.closed = closed

    def __getitem__(self, index: int) -> Video:
        video = super().__getitem__(index)
        if index == 1:
            video.frames = BreaksOff(video.frames)
        if index == 2 and self.closed:
            raise InputError("clip3.mp4: not a video file")
        return video


class BreaksOff:
    """Frames of which the fourth cannot be read."""

    def __init__(self, frames: Any) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Tensor:
        return self.frames[index]

    def __iter__(self) -> Any:
        for index, frame in enumerate(self.frames):
            if index == 3:
                raise InputError("clip2.mp4: frame 3 is truncated")
            yield torch.as_tensor(frame)
