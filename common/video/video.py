"""A video: lazily decoded frames with prompts and annotations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from common.video.types import Prompt


class Frames(Protocol):
    """RGB frames uint8 (H, W, 3), decoded on access. A camera or a pipe has only ``__iter__``."""

    def __iter__(self) -> Iterator[Tensor]: ...


class Annotations(Protocol):
    """Ground truth of a video: bool (N, H, W) per frame, rows as ``Video.targets``; None if not annotated."""

    def __getitem__(self, frame: int) -> Tensor | None: ...


@dataclass
class Video:
    """A video with its prompts and annotations.

    Attributes:
        id: name, unique in its data set.
        frames: lazy RGB frames, uint8 (H, W, 3), all of one size.
        fps: frame rate.
        prompts: prompts for the method.
        targets: ids of the annotated targets, ascending.
        truth: ground truth masks, or None if hidden. Never passed to a method.
        names: file stem of each frame (``00000``), also used in submissions; empty means five-digit indices.
        attributes: further metadata of the data set (its names of targets, size), as plain data.
        annotated: indices of the frames with ground truth, ascending; None means all.
        vocabulary: category names of the data set, if any.
        stuff: names of the stuff classes; a video has at most one target of each.
        categories: index in the vocabulary of each annotated target. Never passed to a method.
        expressions: referring expressions of each annotated target.
        overlap: whether annotated masks may overlap; answers may then, too, where the method can give such.
    """

    id: str
    frames: Frames
    fps: float = 24.0
    prompts: tuple[Prompt, ...] = ()
    targets: tuple[int, ...] = ()
    truth: Annotations | None = None
    names: Sequence[str] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    annotated: Sequence[int] | None = None
    vocabulary: tuple[str, ...] = ()
    stuff: tuple[str, ...] = ()
    categories: dict[int, int] = field(default_factory=dict)
    expressions: dict[int, tuple[str, ...]] = field(default_factory=dict)
    overlap: bool = False

    def __len__(self) -> int:
        """Return the number of frames.

        Raises:
            TypeError: the video is a stream of unknown length.
        """
        return len(self.frames)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.frames)

    def __getitem__(self, frame: int) -> Tensor:
        image: Tensor = self.frames[frame]  # type: ignore[index]
        return image

    @property
    def length(self) -> int | None:
        """Number of frames, or None for a stream."""
        return len(self) if hasattr(self.frames, "__len__") else None

    def name(self, frame: int) -> str:
        """Return the file stem of a frame.

        Args:
            frame: frame index.
        """
        return self.names[frame] if self.names else f"{frame:05d}"
