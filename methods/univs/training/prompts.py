"""Prompts of a training batch: which targets they ask for, and their tokens on each clip.

Legend: B videos, T frames, N targets, P prompts, L tokens of a prompt, R sampled tokens, C channels, D channels of a
text embedding, K categories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from common.data.clip import Clip
from methods.univs.network.model import UniVSNetwork
from methods.univs.network.prompts import PromptKind, PromptTokens, VisualTokens, stack_tokens
from methods.univs.network.scene import Scene
from methods.univs.network.visual_sampler import jitter_box, sample_box, sample_mask, sample_points
from methods.univs.settings import TrainingSettings
from methods.univs.training.criterion import Targets


@dataclass(frozen=True)
class PromptBatch:
    """Prompts of a batch of videos, the same for all clips of a video.

    Attributes:
        network: the network.
        settings: the recipe.
        kind: kind of all prompts.
        rows: int64 (B, P), indices of the targets; for category names indices in the vocabulary.
        valid: bool (B, P), False for rows that only pad the batch.
        categories: int64 (B, N), categories of all targets; None on data without categories.
        text: (B, P, L, D), tokens of category names (L = 1) and expressions; None for visual prompts.
    """

    network: UniVSNetwork
    settings: TrainingSettings
    kind: PromptKind
    rows: Tensor
    valid: Tensor
    categories: Tensor | None = None
    text: Tensor | None = None

    def for_window(self, scene: Scene, masks: Tensor, memory: VisualTokens | None = None) -> PromptTokens:
        """Build the prompts of a clip; visual ones are sampled on a random key frame that shows a prompted target.

        Args:
            scene: features of the clip.
            masks: bool (B, N, T, H, W), masks of all targets on the clip.
            memory: (B, P, 1, L, C), further tokens that ProCA reads.
        """
        if self.text is not None and self.kind == "category":
            return self.network.category_prompts(scene, self.text[:, :, 0], self.valid)
        if self.text is not None:
            extra = None if memory is None else memory.content
            return self.network.expression_prompts(scene, self.text, self.valid, extra)
        count, kinds = self.network.settings.points, self.settings.visual_kind_probs
        parts = []
        for video, targets in enumerate(self._prompted_masks(masks)):
            key = _key_frame(targets)
            # targets that the key frame does not show get blank tokens
            samples = [_sample_target(scene, video, key, target[key], count, kinds) for target in targets]
            parts.append(stack_tokens(samples))
        sampled = _batch(parts)
        tokens = sampled if memory is None else VisualTokens.combine([sampled, memory], lambda x: torch.cat(x, 3))
        content_position = bool(torch.rand(()) < self.settings.content_position_prob)
        return self.network.visual_prompts(sampled, tokens, self.valid, content_position)

    def targets(self, masks: Tensor) -> Targets:
        """Return what the prompt queries should find on a clip: for a category name the union of its targets.

        Args:
            masks: bool (B, N, T, H, W), masks of all targets on the clip.
        """
        if self.kind == "category":
            assert self.categories is not None
            members = (self.categories[:, None] == self.rows[:, :, None]) & self.valid[:, :, None]
            wanted = torch.stack([_union(rows, video) for rows, video in zip(members, masks, strict=True)])
            labels = self.rows
        else:
            wanted = self._prompted_masks(masks)
            none = torch.full_like(self.rows, -1)
            labels = none if self.categories is None else self.categories.gather(1, self.rows)
        visible = wanted.flatten(2).any(2)
        return Targets(wanted, torch.where(visible, self.rows, -1), labels, self.valid)

    def sample_memory_tokens(self, scene: Scene, masks: Tensor) -> VisualTokens:
        """Sample tokens (B, P, 1, k R, C) of the true masks on a clip's last k frames, k from T / 3 + 1 to T - 1.

        They stand for the memory pool that a target has in inference.

        Args:
            scene: features of the clip.
            masks: bool (B, N, T, H, W), masks of all targets on the clip.
        """
        length, points = masks.shape[2], self.network.settings.points
        low = min(length // 3 + 1, max(1, length - 1))
        last = int(torch.randint(low, max(low + 1, length), ()))
        parts = []
        for video, targets in enumerate(self._prompted_masks(masks)):
            frames = [
                stack_tokens([sample_mask(scene, video, t, target[t], points, extremes=True) for target in targets])
                for t in range(length - last, length)
            ]
            parts.append(VisualTokens.combine(frames, lambda x: torch.cat(x, 1)))
        return _batch(parts)

    def _prompted_masks(self, masks: Tensor) -> Tensor:
        """Masks bool (B, P, T, H, W) of the prompted targets; empty for padding."""
        videos = torch.arange(len(masks), device=masks.device)[:, None]
        return masks[videos, self.rows] & self.valid[:, :, None, None, None]


def sample_prompts(
    network: UniVSNetwork, clip: Clip, masks: Tensor, concepts: Tensor | None, settings: TrainingSettings
) -> PromptBatch:
    """Choose the prompts of a batch by what its data set offers.

    Expressions, if there are any. On data with categories their names, or with probability ``visual_prompt_prob`` the
    targets themselves as visual prompts. Visual prompts on all other data.

    Args:
        network: the network.
        clip: the batch.
        masks: bool (B, N, T, H, W), masks of all targets on the first clip of each video.
        concepts: text embeddings (K, D) of the vocabulary; None on data without categories.
        settings: the recipe.
    """
    visible, most = masks.flatten(2).any(2), settings.max_prompts
    if clip.expressions is not None:
        rows, valid = _choose([video.nonzero()[:, 0] for video in visible], most)
        text = _expression_tokens(network, clip.expressions, rows, valid)
        return PromptBatch(network, settings, "expression", rows, valid, clip.categories, text)
    names = concepts is not None and len(concepts) <= settings.max_vocabulary
    if names and torch.rand(()) >= settings.visual_prompt_prob and concepts is not None and clip.categories is not None:
        present = [categories[rows] for categories, rows in zip(clip.categories, visible, strict=True)]
        rows, valid = _choose([_sample_names(categories, len(concepts), most) for categories in present], most)
        return PromptBatch(network, settings, "category", rows, valid, clip.categories, concepts[rows][:, :, None])
    # only targets that one random frame shows become prompts
    keys = [_key_frame(video) for video in masks]
    candidates = [video[:, key].flatten(1).any(1).nonzero()[:, 0] for video, key in zip(masks, keys, strict=True)]
    rows, valid = _choose(candidates, most)
    return PromptBatch(network, settings, "visual", rows, valid, clip.categories)


def _expression_tokens(
    network: UniVSNetwork, expressions: Sequence[Sequence[str]], rows: Tensor, valid: Tensor
) -> Tensor:
    """Tokens (B, P, L, D) of the expressions of the prompted targets; zeros for padding."""
    places = valid.nonzero().tolist()
    words = network.text.expressions([expressions[video][int(rows[video, prompt])] for video, prompt in places])
    return words.new_zeros(*valid.shape, *words.shape[1:]).index_put(valid.nonzero().unbind(1), words)


def _sample_target(
    scene: Scene, video: int, frame: int, mask: Tensor, count: int, kind_probs: tuple[float, float, float]
) -> VisualTokens:
    """Tokens (count, C) of a target's random point, jittered box, or mask bool (H, W)."""
    kind = int(torch.multinomial(torch.tensor(kind_probs), 1))
    pixels = mask.nonzero()
    if kind == 2 or not len(pixels):
        return sample_mask(scene, video, frame, mask, count, extremes=True)
    if kind == 0:
        point = pixels[int(torch.randint(len(pixels), ()))].flip(0)[None] + 0.5  # x, y of the pixel's centre
        return sample_points(scene, video, frame, point, count)
    (y0, x0), (y1, x1) = pixels.amin(0).tolist(), (pixels.amax(0) + 1).tolist()
    return sample_box(scene, video, frame, jitter_box((x0, y0, x1, y1), scene.size), count)


def _key_frame(masks: Tensor) -> int:
    """A random frame that shows one of the targets (N, T, H, W); 0 if none does."""
    frames = masks.flatten(2).any(2).any(0).nonzero()[:, 0]
    return int(frames[torch.randint(len(frames), ())]) if len(frames) else 0


def _sample_names(categories: Tensor, count: int, most: int) -> Tensor:
    """Categories that are present, and random absent ones of all ``count``, up to ``most``."""
    present: Tensor = torch.unique(categories)
    listed = present.tolist()
    absent = torch.tensor([name for name in range(count) if name not in listed], dtype=torch.long).to(present)
    return torch.cat([present[:most], absent[torch.randperm(len(absent))[: max(0, most - len(present))]]])


def _choose(candidates: list[Tensor], most: int) -> tuple[Tensor, Tensor]:
    """At most ``most`` random candidates of each video, padded with 0 to (B, P), and which are no padding."""
    chosen = [rows[torch.randperm(len(rows))[:most].to(rows.device)] for rows in candidates]
    longest = max(1, max(len(rows) for rows in chosen))
    valid = [torch.arange(longest, device=rows.device) < len(rows) for rows in chosen]
    return torch.stack([F.pad(rows, (0, longest - len(rows))) for rows in chosen]), torch.stack(valid)


def _batch(parts: list[VisualTokens]) -> VisualTokens:
    """Tokens (P, L, C) of each video as (B, P, 1, L, C)."""
    return VisualTokens.combine(parts, lambda x: torch.stack(x)[:, :, None])


def _union(members: Tensor, masks: Tensor) -> Tensor:
    """Bool (P, T, H, W): for each row of ``members`` (P, N) the union of its targets (N, T, H, W)."""
    return torch.stack([masks[rows].any(0) if rows.any() else torch.zeros_like(masks[0]) for rows in members])
