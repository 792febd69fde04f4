"""Inference on one video, frame by frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor, nn

from common.errors import InputError
from common.video import FrameMasks, Prompt

Frame = Tensor | NDArray[np.uint8] | Image
"""A frame uint8 RGB (H, W, 3) as a user has it: a tensor on any device, a numpy array or a PIL image."""

ASKED = {"overlap": "overlapping masks", "keep_logits": "logits", "keep_candidates": "candidate masks"}


class Session(ABC):
    """Inference on one video, frame by frame.

    ``step`` takes the next RGB frame and new prompts, and returns the answers that have become final: usually that of
    this frame, sometimes none, sometimes several. ``finish`` returns the rest. Answers come in frame order, one per
    frame. Memory is bounded for any length of video.

    Attributes:
        kinds: prompts accepted on a frame of the video: ``mask``, ``box``, ``points``, ``text``, ``vocabulary``.
        outside_kinds: prompts accepted on an image from outside the video.
        correction_kinds: prompts accepted by ``correct``.
        ahead_kinds: prompts accepted by ``prompt_ahead``.
        settable: which of the next three may be set before the first frame; ``reset`` keeps them.
        overlap: whether masks may overlap; otherwise a pixel belongs to one target.
        keep_logits: whether answers have ``FrameMasks.logits``.
        keep_candidates: whether answers have ``FrameMasks.candidates``.
        frame: index of the last frame taken, -1 before the first.
        size: (H, W) of the video, None before the first frame.
    """

    kinds: tuple[str, ...] = ("mask",)
    outside_kinds: tuple[str, ...] = ()
    correction_kinds: tuple[str, ...] = ()
    ahead_kinds: tuple[str, ...] = ()
    settable: tuple[str, ...] = ()
    overlap: bool = False
    keep_logits: bool = False
    keep_candidates: bool = False
    frame: int
    size: tuple[int, int] | None

    def ask(self, *names: str) -> None:
        """Set ``overlap``, ``keep_logits`` or ``keep_candidates`` before the first frame.

        Args:
            names: of these attributes.

        Raises:
            InputError: the method does not have it.
        """
        for name in names:
            if name not in self.settable and not getattr(self, name):
                raise InputError(f"{self._name} gives no {ASKED[name]}; do not ask for them")
            setattr(self, name, True)

    @abstractmethod
    def step(self, frame: Frame, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
        """Take the next frame and its prompts.

        Args:
            frame: uint8 RGB (H, W, 3), see ``Frame``.
            prompts: on this frame, whatever their ``frame`` says; their tensors may be on the CPU.

        Returns:
            The answers that have become final, in frame order.

        Raises:
            InputError: see ``check``; the session is unchanged and takes another frame instead.
        """

    def correct(self, prompts: Sequence[Prompt]) -> FrameMasks:
        """Correct the answer for the last frame taken.

        The corrected targets' answer and memory of that frame are replaced; later frames read the corrected memory.
        The other targets keep their answers. A frame that has been returned is to be replaced by what is returned here;
        one that is pending is returned later as corrected.

        Args:
            prompts: for targets that are tracked, on the last frame, whatever their ``frame`` says.

        Returns:
            The new answer for the frame, with all its targets.

        Raises:
            InputError: see ``check_correction``; the session is unchanged.
        """
        raise InputError(f"{self._name} takes no corrections")

    def prompt_ahead(self, index: int, frame: Frame, prompts: Sequence[Prompt]) -> None:
        """Give the prompts of a later frame in advance, so that earlier frames can read them.

        A target still starts on the first frame on which it is prompted.

        Args:
            index: of the frame, which has not been taken.
            frame: uint8 RGB (H, W, 3), see ``Frame``.
            prompts: on the frame, none of them on an outside image.

        Raises:
            InputError: the method takes none, or the arguments do not fit; the session is unchanged.
        """
        raise InputError(f"{self._name} takes no prompts ahead of their frame")

    @abstractmethod
    def finish(self) -> list[FrameMasks]:
        """Return the remaining answers. The session must be reset before it takes another frame."""

    @abstractmethod
    def drop(self, target: int) -> None:
        """Stop tracking a target from the next frame on.

        Args:
            target: its id.

        Raises:
            InputError: the target is not tracked.
        """

    @abstractmethod
    def reset(self) -> None:
        """Clear all state."""

    @property
    def device(self) -> torch.device:
        """Device of the networks, to which frames are moved."""
        return torch.device("cpu")

    def check(self, frame: Frame, prompts: Sequence[Prompt]) -> tuple[Tensor, tuple[int, int]]:
        """Check and convert a frame, and check its prompts, before ``step`` changes anything.

        Args:
            frame: uint8 RGB (H, W, 3), see ``Frame``.
            prompts: on this frame.

        Returns:
            The frame as a tensor, moved from the CPU to the device of the networks, and its size (H, W).

        Raises:
            InputError: the frame is not uint8 RGB or differs in size from the first one; a prompt is of a kind that the
                method does not accept, is the second one of its target, has a mask of another size than the frame, or
                has a point or the whole of its box outside the frame.
        """
        index = self.frame + 1
        frame, size = self._check_frame(frame, index)
        self._check_prompts(prompts, index, size, self.kinds, self.outside_kinds)
        return frame, size

    def _check_frame(self, frame: Frame, index: int) -> tuple[Tensor, tuple[int, int]]:
        """Check the type and the size of a frame; return it and its size as ``check`` does."""
        values = frame if isinstance(frame, Tensor) else _as_array(frame)
        if values is None or values.dtype not in (torch.uint8, np.uint8) or values.ndim != 3 or values.shape[2] != 3:
            raise InputError(f"frame {index}: it must be uint8 RGB (H, W, 3), not {_in_other_form(frame, values)}")
        frame = values if isinstance(values, Tensor) else torch.from_numpy(values)
        size = (frame.shape[0], frame.shape[1])
        if self.size not in (None, size):
            raise InputError(f"frame {index} is {size[0]}x{size[1]}, the video is {self.size[0]}x{self.size[1]}")
        return frame.to(self.device) if frame.device.type == "cpu" else frame, size

    def check_correction(self, prompts: Sequence[Prompt], tracked: Collection[int]) -> None:
        """Check the arguments of ``correct`` before it changes anything.

        Args:
            prompts: on the last frame.
            tracked: ids of the targets of the last frame.

        Raises:
            InputError: no frame has been taken or no prompt is given; a target is not tracked; a prompt is of a kind
                that the method does not accept here, is the second one of its target, or has a mask of another size
                than the frame.
        """
        if self.size is None or self.frame < 0:
            raise InputError("no frame has been taken; there is nothing to correct")
        if not prompts:
            raise InputError(f"frame {self.frame}: a correction needs at least one prompt")
        for prompt in prompts:
            check_tracked(prompt.target, tracked)
        self._check_prompts(prompts, self.frame, self.size, self.correction_kinds, ())

    def _check_prompts(
        self,
        prompts: Sequence[Prompt],
        frame: int,
        size: tuple[int, int],
        kinds: tuple[str, ...],
        outside_kinds: tuple[str, ...],
    ) -> None:
        """Check prompts on a frame of a size (H, W) against the accepted kinds."""
        targets: set[int] = set()
        for prompt in prompts:
            where = f"prompt of target {prompt.target} at frame {frame}"
            accepted = kinds if prompt.image is None else outside_kinds
            if not accepted or not set(prompt.kinds) <= set(accepted):
                given = " and ".join(prompt.kinds) + (" on an outside image" if prompt.image is not None else "")
                raise InputError(f"{where}: {self._name} takes {_in_words(kinds, outside_kinds)}; this is {given}")
            if prompt.image is None and prompt.mask is not None and prompt.mask.shape != size:
                raise InputError(f"{where}: the mask is {tuple(prompt.mask.shape)}, the frame is {size}")
            if prompt.image is None:
                _check_inside(prompt, size, where)
            if prompt.target in targets:
                raise InputError(
                    f"{where}: there is another one already; put everything about a target into one prompt"
                )
            targets.add(prompt.target)

    @property
    def _name(self) -> str:
        return type(self).__name__.removesuffix("Session")


def _as_array(frame: Any) -> NDArray[Any] | None:
    """Return a numpy array or a PIL image as an array that torch can share; None if it is neither."""
    if not hasattr(frame, "__array_interface__"):
        return None
    array = np.ascontiguousarray(frame)  # of a flipped view, as frame[..., ::-1] of BGR, a copy
    return array if array.flags.writeable else array.copy()


def _in_other_form(frame: object, values: Tensor | NDArray[Any] | None) -> str:
    """Return what a wrong frame is, and what to do."""
    name = type(frame).__name__
    if values is None:
        return f"{name}; give a tensor, a numpy array or a PIL image"
    form = f"{name} {values.dtype} {tuple(values.shape)}"
    if isinstance(frame, Image):
        return f"{form}; a PIL image is converted by .convert('RGB')"
    if values.dtype in (torch.uint8, np.uint8):
        return f"{form}; three channels come last: array.transpose(1, 2, 0) or tensor.permute(1, 2, 0) moves them there"
    return f"{form}; convert values in 0..1 by (255 * frame).round(), then to uint8"


def module_device(module: nn.Module) -> torch.device:
    """Return the device of a module's parameters; the CPU if it has none."""
    parameter = next(module.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _check_inside(prompt: Prompt, size: tuple[int, int], where: str) -> None:
    """Raise an error if a point, or the whole of a box, lies outside a frame of a size (H, W)."""
    height, width = size
    frame = f"the frame of {height}x{width} (height x width)"
    if prompt.box is not None:
        x0, y0, x1, y1 = prompt.box
        if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
            raise InputError(f"{where}: the box {prompt.box} lies outside {frame}; give x0,y0,x1,y1 in its pixels")
    if prompt.points is not None:
        for x, y in prompt.points.tolist():
            if not (0 <= x <= width and 0 <= y <= height):
                raise InputError(f"{where}: the point ({x:g}, {y:g}) lies outside {frame}; give x,y in its pixels")


def _in_words(kinds: tuple[str, ...], outside_kinds: tuple[str, ...]) -> str:
    """Return the accepted prompts in words."""
    outside = f" and {', '.join(outside_kinds)} on an outside image" if outside_kinds else ""
    return f"{', '.join(kinds) or 'nothing'} on a frame of the video{outside}"


def check_tracked(target: int, tracked: Collection[int]) -> None:
    """Raise an error if a target is not tracked.

    Args:
        target: id to be dropped.
        tracked: ids of the tracked targets.

    Raises:
        InputError: names both.
    """
    if target not in tracked:
        raise InputError(f"target {target} is not tracked; tracked are {sorted(tracked)}")


class Method(Protocol):
    """What opens sessions: every ``VideoSegmenter``."""

    @property
    def device(self) -> torch.device:
        """Device of the networks."""

    def session(self, length: int | None = None) -> Session:
        """Open a session for a number of frames, where it is known."""

    def networks(self) -> dict[str, nn.Module]:
        """Return every module that a session may refer to, by name."""
