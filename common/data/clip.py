"""Batch of training clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass
class Clip:
    """A batch of training clips.

    The clips of a batch with ``categories`` or ``expressions`` come from one data set. Their targets are visible in any
    frame of the clip; stuff forms one target per category.

    Attributes:
        vocabulary: C category names of the data set, with ``categories``.
        stuff: names of the stuff classes in the vocabulary; all of them for semantic masks.
        expressions: N texts per clip, empty for invalid rows; or None.

    Shape:
        frames: uint8 (B, T, 3, H, W), RGB.
        masks: bool (B, T, N, H, W), ground truth per target.
        valid: bool (B, N), False for rows that pad the batch. Every valid target is visible in frame 0, unless it is
            specified by a query, a category or an expression: then it may be absent from any frame.
        query: uint8 (B, N, 3, H, W), an external image of each target, or None.
        query_masks: bool (B, N, H, W), the target's mask on it, or None; empty only for invalid rows.
        categories: int64 (B, N), index in the vocabulary, -1 for invalid rows; or None.
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
        """Move all tensors to a device; called by Lightning.

        Args:
            device: target device.
            non_blocking: copy asynchronously.
        """
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Clip:
        """Copy all tensors to page-locked memory; called by the DataLoader."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Clip:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors: dict[str, Any] = {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **tensors)
