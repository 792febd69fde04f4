"""An entity: what was found by category and is followed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from methods.univs.inference.memory_pool import Pool
from methods.univs.inference.window import Window


@dataclass(eq=False)
class Entity:
    """What is known of it.

    Attributes:
        id: unique in the video, from 1.
        pool: its memory.
        classes: (K,) class probabilities times the masks' quality, of the newest clip.
        past_classes: (K,) sum of those of ``clips`` earlier ones.
        quality: of its masks, summed up over prompts and detections.
        seen: last frame on which it showed.
        answered: it has been in an answer as a thing.
    """

    id: int
    pool: Pool
    classes: Tensor
    past_classes: Tensor
    clips: int = 0
    quality: float = 0.0
    seen: int = -1
    answered: bool = False

    @property
    def scores(self) -> Tensor:
        """(K,) ``classes``, averaged over its history."""
        return (self.past_classes + self.classes) / (self.clips + 1)

    def reach(self, frame: int, recent: int) -> None:
        """Open the slot of a new clip: its classes are a copy of the last, its embedding the mean of the latest."""
        self.past_classes, self.clips = self.past_classes + self.classes, self.clips + 1
        self.pool.reach(frame, recent)

    def add(self, window: Window, masks: Tensor, quality: float) -> None:
        """Masks (T, h, w) of a clip, and their quality."""
        self.pool.add(dict(zip(window.frames, masks, strict=True)), {})
        shown = [frame for frame, mask in zip(window.frames, masks, strict=True) if (mask > 0).any()]
        self.seen = max([self.seen, *shown])
        self.quality += quality

    def resemble(self, window: Window, embeddings: Tensor) -> None:
        """Embeddings (T, C) of a clip: their mean goes into the newest slot."""
        self.pool.add({}, {window.frames[-1]: embeddings.mean(0)})

    def shape(self, window: Window) -> Tensor:
        """Its masks bool (T, h, w) so far."""
        blank = torch.zeros(window.scene.mask.shape[-2:], device=window.scene.mask.device)
        masks = [self.pool.masks(frame) for frame in window.frames]
        return torch.stack([blank if mask is None else mask for mask in masks]) > 0
