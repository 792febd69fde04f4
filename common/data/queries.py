"""Training clips for visual queries: the target is shown in an external image and may be absent from the clip."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from common.data.augmentation import Augmentation
from common.data.clips import VISIBLE, ClipDataset, Item, VideoSet, resize_image, resize_masks
from common.errors import InputError
from common.video import Prompt, Video


class QueryClips(ClipDataset):
    """Clips with a query image for each target, deterministic in (seed, epoch, index).

    A target may be absent from any frame, including the first. The augmentation is consistent over the frames of a clip
    and independent for each query image. At most ``max_objects`` of a video's queries are drawn for a clip.

    Args:
        videos: annotated videos whose prompts are masks on external images.
        arguments: positional arguments of ``ClipDataset``.
        positives: fraction of clips that are guaranteed to show a target in some frame; others are unconstrained.
        negatives: fraction of clips with queries of another video, so that all masks are empty.
        named: keyword arguments of ``ClipDataset``.

    Shape: an item is (frames uint8 (T, 3, H, W), masks bool (T, N, H, W), query uint8 (N, 3, H, W), query masks bool
        (N, H, W)) with 1 <= N <= max_objects.

    Raises:
        InputError: see ``ClipDataset``; also if ``positives`` or ``negatives`` is not in 0..1, or a video has no query.
    """

    def __init__(
        self, videos: VideoSet, *arguments: Any, positives: float = 0.9, negatives: float = 0.0, **named: Any
    ) -> None:
        super().__init__(videos, *arguments, **named)
        if not (0 <= positives <= 1 and 0 <= negatives <= 1):
            raise InputError(
                f"QueryClips: positives {positives} and negatives {negatives} are shares of the clips, 0 to 1"
            )
        if self.augment is not None and (self.augment.keep_shape or self.augment.pasted == "targets"):
            raise InputError("QueryClips: augmentation with keep_shape or pasted targets is for clips without queries")
        self.positives, self.negatives = positives, negatives

    def _clip(self, number: int, rng: np.random.Generator) -> Item:
        prompts: list[Prompt] = []
        required = bool(rng.random() < self.positives)
        video, times, masks = self._find(number, rng, partial(self._draw_queries, chosen=prompts, required=required))
        if self.negatives and rng.random() < self.negatives and len(self.videos) > 1:
            other = self.videos[(number + int(rng.integers(1, len(self.videos)))) % len(self.videos)]
            count = len(self._draw_queries(other, times[:1], rng, prompts, required=False)[0])  # type: ignore[index]
            masks = masks.new_zeros(len(masks), count, *masks.shape[2:])
        queries = [(prompt.image, prompt.mask) for prompt in prompts]
        images = torch.stack([resize_image(image, self.size) for image, _ in queries if image is not None])
        query_masks = torch.stack([_resize_query_mask(mask, self.size) for _, mask in queries if mask is not None])
        return self._frames(video, times), masks, images, query_masks

    def _draw_queries(
        self, video: Video, times: list[int], rng: np.random.Generator, chosen: list[Prompt], required: bool
    ) -> Tensor | None:
        """Draw queries, store their prompts in ``chosen`` and return the masks; None if a required target is absent."""
        prompts = [p for p in video.prompts if p.mask is not None and p.image is not None and p.target in video.targets]
        if not prompts:
            raise InputError(f"{video.id}: no target has a query image with a mask; train with queries on such videos")
        order = np.sort(rng.permutation(len(prompts))[: self.max_objects])
        chosen[:] = [prompts[k] for k in order]
        rows = [video.targets.index(prompt.target) for prompt in chosen]
        masks = torch.stack([self._masks(video, time) for time in times])[:, rows]
        visible = (masks.flatten(2).sum(2) >= VISIBLE * masks[0, 0].numel()).any()
        return masks if visible or not required else None

    def _augment(self, augment: Augmentation, clip: Item, rng: np.random.Generator, paste: Item | None) -> Item:
        frames, masks = augment(clip[0], clip[1], rng, paste and paste[:2], absent=True)
        stills = [augment(i[None], m[None, None], rng) for i, m in zip(clip[2], clip[3], strict=True)]
        images, query_masks = (torch.cat(parts) for parts in zip(*stills, strict=True))
        return frames, masks, images, query_masks[:, 0]


def _resize_query_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a query mask bool (h, w); a target that would vanish keeps all pixels that it touches."""
    resized = resize_masks(mask[None], size)[0]
    return resized if resized.any() else adaptive_max_pool2d(mask[None].float(), size)[0] > 0
