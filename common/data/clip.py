"""A training batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass
class Clip:
    """A batch of training clips.

    Clips of a batch with ``categories`` or ``expressions`` are of one data set. Their targets are those that show in
    some frame of the clip, whichever; those that cannot be counted are one target a category.

    Attributes:
        vocabulary: C category names of the data set, if there are ``categories``.
        stuff: those names of the vocabulary that cannot be counted; all of them where the masks are semantic.
        expressions: for each clip of the batch its N texts, empty where a row is not valid; or None.

    Shape:
        frames: uint8 (B, T, 3, H, W), RGB.
        masks: bool (B, T, N, H, W), ground truth per target.
        valid: bool (B, N), False where a target row only pads the batch. Every valid target is visible in frame 0,
            unless it is given by a query, a category or an expression: then it may be absent from any frame.
        query: uint8 (B, N, 3, H, W), an image from outside the clip for each target, or None.
        query_masks: bool (B, N, H, W), the target on it, or None; empty only where a row is not valid.
        categories: int64 (B, N), place in the vocabulary, -1 where a row is not valid; or None.
        times: int64 (B, T), index of each frame in its video, or None.
    """

    frames: Tensor
    masks: Tensor
    valid: Tensor
    query: Tensor | None = None
    query_masks: Tensor | None = None
    categories: Tensor | None = None
    expressions: list[list[str]] | None = None
    vocabulary: tuple[str, ...] = ()
    stuff: tuple[str, ...] = ()
    times: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Clip:
        """The same clip on another device (Lightning calls this)."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Clip:
        """The same clip in page-locked memory (the DataLoader calls this)."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Clip:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors: dict[str, Any] = {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **tensors)
