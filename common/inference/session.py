"""Inference on one video, frame by frame: what every method's session is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from common.errors import InputError
from common.video import FrameMasks, Prompt


class Session(ABC):
    """Inference on one video, frame by frame.

    ``step`` takes the next RGB frame and any new prompts and returns the frames whose answer has just become final:
    usually this one, sometimes none, sometimes several. ``finish`` returns the rest. Answers come in frame order, each
    frame once. Memory is bounded however long the video is.

    Attributes:
        kinds: prompts that it takes on a frame of the video: ``mask``, ``box``, ``points``, ``text``, ``vocabulary``.
        outside_kinds: prompts that it takes on an outside image.
        frame: index of the last frame taken, -1 before the first.
        size: (H, W) of the video, None before the first frame.
    """

    kinds: tuple[str, ...] = ("mask",)
    outside_kinds: tuple[str, ...] = ()
    frame: int
    size: tuple[int, int] | None

    @abstractmethod
    def step(self, frame: Tensor, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
        """Take the next frame, uint8 RGB (H, W, 3), and prompts that hold on it (their ``frame`` is not looked at).

        The frame lies on the method's device; the tensors of a prompt may lie on the CPU.

        Raises:
            InputError: see ``check``; the session then takes another frame in its place.
        """

    @abstractmethod
    def finish(self) -> list[FrameMasks]:
        """The answers still open; after it the session must be reset before another frame."""

    @abstractmethod
    def drop(self, target: int) -> None:
        """Stop following a target from the next frame on.

        Raises:
            InputError: the target is not followed.
        """

    @abstractmethod
    def reset(self) -> None:
        """Forget everything: the session is as new."""

    def check(self, frame: Tensor, prompts: Sequence[Prompt]) -> tuple[int, int]:
        """Size (H, W) of the next frame; for ``step``, before it changes anything.

        Raises:
            InputError: a frame of another size than the first; a prompt of a kind that the method does not know, the
                second of its target, or with a mask of another size than the frame.
        """
        size, index = (frame.shape[0], frame.shape[1]), self.frame + 1
        if self.size not in (None, size):
            raise InputError(f"frame {index} is {size[0]}x{size[1]}, the video is {self.size[0]}x{self.size[1]}")
        targets: set[int] = set()
        for prompt in prompts:
            where = f"prompt of target {prompt.target} at frame {index}"
            known = self.kinds if prompt.image is None else self.outside_kinds
            if not known or not set(prompt.kinds) <= set(known):
                given = " and ".join(prompt.kinds) + (" on an outside image" if prompt.image is not None else "")
                raise InputError(f"{where}: {self._name} takes {self._takes()}; this is {given}")
            if prompt.image is None and prompt.mask is not None and prompt.mask.shape != size:
                raise InputError(f"{where}: the mask is {tuple(prompt.mask.shape)}, the frame is {size}")
            if prompt.target in targets:
                raise InputError(f"{where}: there is another one already; say all of a target in one prompt")
            targets.add(prompt.target)
        return size

    @property
    def _name(self) -> str:
        return type(self).__name__.removesuffix("Session")

    def _takes(self) -> str:
        """What prompts the method knows, in words."""
        outside = f" and {', '.join(self.outside_kinds)} on an outside image" if self.outside_kinds else ""
        return f"{', '.join(self.kinds)} on a frame of the video{outside}"


class Method(Protocol):
    """What opens sessions: every ``VideoSegmenter``."""

    @property
    def device(self) -> torch.device:
        """Device of the networks."""

    def session(self, length: int | None = None) -> Session:
        """Open a session for a number of frames, where it is known."""

    def networks(self) -> dict[str, nn.Module]:
        """Return every module that a session may refer to, by name."""
