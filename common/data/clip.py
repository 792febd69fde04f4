"""A training batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Clip:
    """A batch of training clips.

    Shape:
        frames: uint8 (B, T, 3, H, W), RGB.
        masks: bool (B, T, N, H, W), ground truth per target.
        valid: bool (B, N), False where a target row only pads the batch. Every valid target is visible in frame 0.
    """

    frames: Tensor
    masks: Tensor
    valid: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Clip:
        """The same clip on another device (Lightning calls this)."""
        return Clip(*(getattr(self, k).to(device, non_blocking=non_blocking) for k in ("frames", "masks", "valid")))

    def pin_memory(self) -> Clip:
        """The same clip in page-locked memory (the DataLoader calls this)."""
        return Clip(self.frames.pin_memory(), self.masks.pin_memory(), self.valid.pin_memory())
