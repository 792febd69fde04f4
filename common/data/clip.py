"""A training batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass
class Clip:
    """A batch of training clips.

    Shape:
        frames: uint8 (B, T, 3, H, W), RGB.
        masks: bool (B, T, N, H, W), ground truth per target.
        valid: bool (B, N), False where a target row only pads the batch. Every valid target is visible in frame 0,
            unless it is given by a query: then it may be absent from any frame.
        query: uint8 (B, N, 3, H, W), an image from outside the clip for each target, or None.
        query_masks: bool (B, N, H, W), the target on it, or None; empty only where a row is not valid.
    """

    frames: Tensor
    masks: Tensor
    valid: Tensor
    query: Tensor | None = None
    query_masks: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Clip:
        """The same clip on another device (Lightning calls this)."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Clip:
        """The same clip in page-locked memory (the DataLoader calls this)."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Clip:
        values = (getattr(self, field.name) for field in fields(self))
        return Clip(*(None if value is None else change(value) for value in values))  # type: ignore[arg-type]
