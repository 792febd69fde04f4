"""A video: a lazy sequence of frames, with what a benchmark knows about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from common.video.types import Prompt


class Frames(Protocol):
    """RGB frames uint8 (H, W, 3), decoded when asked for. A camera or a pipe has only ``__iter__``."""

    def __iter__(self) -> Iterator[Tensor]: ...


class Annotations(Protocol):
    """Ground truth of a video: bool (N, H, W) for a frame, rows as ``Video.targets``; None where not annotated."""

    def __getitem__(self, frame: int) -> Tensor | None: ...


@dataclass
class Video:
    """One video and what the benchmark gives the model for it.

    Attributes:
        id: name, unique in its data set.
        frames: lazy RGB frames, uint8 (H, W, 3), all of one size.
        fps: frames per second.
        prompts: what the model is told.
        targets: ids of the annotated targets, ascending.
        truth: ground truth masks, or None where the split hides them. Never shown to a model.
        names: stem of each frame's file (``00000``), used again for submissions; empty = five-digit indices.
        attributes: what else the data set knows (its own names of targets, size), as plain data.
        annotated: indices of the frames with ground truth, ascending; None = all.
        vocabulary: names of the data set's categories, where it has them.
        stuff: those of them that cannot be counted; a video has one target at most of each.
        categories: of annotated targets, {target: place in the vocabulary}. Never shown to a model.
        expressions: what people call annotated targets, {target: texts}.
    """

    id: str
    frames: Frames
    fps: float = 24.0
    prompts: tuple[Prompt, ...] = ()
    targets: tuple[int, ...] = ()
    truth: Annotations | None = None
    names: Sequence[str] = ()
    attributes: dict = field(default_factory=dict)
    annotated: Sequence[int] | None = None
    vocabulary: tuple[str, ...] = ()
    stuff: tuple[str, ...] = ()
    categories: dict[int, int] = field(default_factory=dict)
    expressions: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of frames.

        Raises:
            TypeError: the video is a stream, whose length nobody knows.
        """
        return len(self.frames)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.frames)

    def __getitem__(self, frame: int) -> Tensor:
        return self.frames[frame]  # type: ignore[index]

    @property
    def length(self) -> int | None:
        """Number of frames, or None for a stream."""
        return len(self) if hasattr(self.frames, "__len__") else None

    def name(self, frame: int) -> str:
        """File stem of a frame."""
        return self.names[frame] if self.names else f"{frame:05d}"
