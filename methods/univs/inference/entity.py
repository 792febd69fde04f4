"""Entities: targets that were detected by category and are tracked (VIS, VPS)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from methods.univs.inference.memory_pool import MemoryPool
from methods.univs.inference.window import Window


@dataclass(eq=False)
class Entity:
    """A tracked entity.

    Attributes:
        id: its number in the video, from 1.
        pool: its memory.
        classes: (K,), class probabilities times mask quality, of the newest clip.
        past_classes: (K,), sum of those of earlier clips.
        clips: number of earlier clips.
        quality: sum of the qualities of all masks that were added.
        last_seen: last frame with a non-empty mask.
        predicted: True once it was part of a panoptic prediction as a thing.
    """

    id: int
    pool: MemoryPool
    classes: Tensor
    past_classes: Tensor
    clips: int = 0
    quality: float = 0.0
    last_seen: int = -1
    predicted: bool = False

    @property
    def scores(self) -> Tensor:
        """Class scores (K,): ``classes`` averaged over all clips."""
        return (self.past_classes + self.classes) / (self.clips + 1)

    def extend(self, frame: int, recent: int) -> None:
        """Start a new clip, with a copy of the last class scores and the mean of the newest embeddings.

        Args:
            frame: last frame of the clip.
            recent: embeddings that the mean is taken over.
        """
        self.past_classes, self.clips = self.past_classes + self.classes, self.clips + 1
        self.pool.extend(frame, recent)

    def add_masks(self, window: Window, masks: Tensor, quality: float) -> None:
        """Add masks of a clip.

        Args:
            window: the clip.
            masks: logits (T, h, w).
            quality: their mask quality.
        """
        self.pool.update(dict(zip(window.frames, masks, strict=True)), {})
        visible = [frame for frame, mask in zip(window.frames, masks, strict=True) if (mask > 0).any()]
        self.last_seen = max([self.last_seen, *visible])
        self.quality += quality

    def add_embeddings(self, window: Window, embeddings: Tensor) -> None:
        """Add the mean of the embeddings (T, C) of a clip to the newest slot."""
        self.pool.update({}, {window.frames[-1]: embeddings.mean(0)})

    def masks(self, window: Window) -> Tensor:
        """Return its masks so far, bool (T, h, w)."""
        blank = torch.zeros(window.scene.mask_features.shape[-2:], device=window.scene.mask_features.device)
        logits = [self.pool.mask_logits(frame) for frame in window.frames]
        return torch.stack([blank if mask is None else mask for mask in logits]) > 0
