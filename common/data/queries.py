"""Training clips for visual queries: the target is known from an image outside the clip and may be absent."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from common.data.augmentation import Augmentation
from common.data.clips import VISIBLE, ClipDataset, Item, VideoSet, resized_image, resized_masks
from common.errors import InputError
from common.video import Prompt, Video


class QueryClips(ClipDataset):
    """Clips with a query image for each target, each a function of (seed, epoch, index) alone.

    A target may be absent from any frame, the first included. The augmentation changes all frames of a clip alike, and
    each query image by itself. At most ``max_objects`` of a video's queried targets are drawn for a clip.

    Args:
        videos: annotated videos with prompts that are masks on outside images.
        shown: share of clips that are sure to show a target in some frame; the others fall where they may.
        negatives: share of clips whose queries are of another video, so that every mask is empty.
        arguments: those of ``ClipDataset``.

    Shape: an item is (frames uint8 (T, 3, H, W), masks bool (T, N, H, W), query uint8 (N, 3, H, W), query masks bool
        (N, H, W)) with 1 <= N <= max_objects.

    Raises:
        InputError: see ``ClipDataset``; ``shown`` or ``negatives`` is no share; a video without a query.
    """

    def __init__(
        self, videos: VideoSet, *arguments: Any, shown: float = 0.9, negatives: float = 0.0, **named: Any
    ) -> None:
        super().__init__(videos, *arguments, **named)
        if not (0 <= shown <= 1 and 0 <= negatives <= 1):
            raise InputError(f"QueryClips: shown {shown} and negatives {negatives} are shares of the clips, 0 to 1")
        if self.augment is not None and (self.augment.keep_shape or self.augment.pasted == "targets"):
            raise InputError("QueryClips: augmentation with keep_shape or pasted targets is for clips without queries")
        self.shown, self.negatives = shown, negatives

    def _clip(self, number: int, rng: np.random.Generator) -> Item:
        chosen: list[Prompt] = []
        must = bool(rng.random() < self.shown)
        video, times, masks = self._find(number, rng, partial(self._queried, chosen=chosen, must=must))
        if self.negatives and rng.random() < self.negatives and len(self.videos) > 1:
            other = self.videos[(number + int(rng.integers(1, len(self.videos)))) % len(self.videos)]
            count = len(self._queried(other, times[:1], rng, chosen, must=False)[0])  # type: ignore[index]
            masks = masks.new_zeros(len(masks), count, *masks.shape[2:])
        images = torch.stack([resized_image(prompt.image, self.size) for prompt in chosen])  # type: ignore[arg-type]
        query_masks = torch.stack([_fitted(prompt.mask, self.size) for prompt in chosen])  # type: ignore[arg-type]
        return self._frames(video, times), masks, images, query_masks

    def _queried(
        self, video: Video, times: list[int], rng: np.random.Generator, chosen: list[Prompt], must: bool
    ) -> Tensor | None:
        """Masks of the targets drawn, whose prompts go to ``chosen``; None if one must show and none does."""
        prompts = [p for p in video.prompts if p.mask is not None and p.image is not None and p.target in video.targets]
        if not prompts:
            raise InputError(f"{video.id}: no target has a query image with a mask; train with queries on such videos")
        order = np.sort(rng.permutation(len(prompts))[: self.max_objects])
        chosen[:] = [prompts[place] for place in order]
        rows = [video.targets.index(prompt.target) for prompt in chosen]
        masks = torch.stack([self._masks(video, time) for time in times])[:, rows]
        return masks if not must or (masks.flatten(2).sum(2) >= VISIBLE * masks[0, 0].numel()).any() else None

    def _augmented(self, augment: Augmentation, clip: Item, rng: np.random.Generator, paste: Item | None) -> Item:
        frames, masks = augment(clip[0], clip[1], rng, paste and paste[:2], absent=True)
        stills = [augment(i[None], m[None, None], rng) for i, m in zip(clip[2], clip[3], strict=True)]
        images, query_masks = (torch.cat(parts) for parts in zip(*stills, strict=True))
        return frames, masks, images, query_masks[:, 0]


def _fitted(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A query mask bool (h, w) at the clip's size; a target too small for it keeps the pixels that it touches."""
    resized = resized_masks(mask[None], size)[0]
    return resized if resized.any() else adaptive_max_pool2d(mask[None].float(), size)[0] > 0
