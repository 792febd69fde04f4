"""A training step: prompts and losses of a batch of videos, which are processed clip by clip if they are long.

Legend: B videos, T frames, N targets, P prompts, K categories, D channels of a text embedding, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from common.data.clip import Clip
from methods.univs.network.decoder import Outputs
from methods.univs.network.model import UniVSNetwork
from methods.univs.network.prompts import VisualTokens
from methods.univs.settings import TrainingSettings
from methods.univs.training.criterion import (
    Assignment,
    PointSampling,
    Targets,
    assigned_embeddings,
    output_losses,
    prompt_assignment,
    sum_losses,
)
from methods.univs.training.prompts import PromptBatch, sample_prompts
from methods.univs.training.reid import cross_clip_losses

LOSS_TERMS = ("class", "mask", "dice", "semantic", "reid", "reid_aux", "reid_prompt", "reid_prompt_aux")
CROSS_CLIP_TERMS = ("reid_clips", "reid_clips_aux")
LAST_FRAME = 128  # largest frame index: those of later frames are shifted, as the position code has a period


def batch_losses(network: UniVSNetwork, clip: Clip, settings: TrainingSettings) -> dict[str, Tensor]:
    """Return the losses by name, summed over outputs and averaged over clips; terms that do not apply are zero.

    Videos that are cut into several clips (stage 3) have a memory: tokens of the true masks on the first clip's last
    frames, which ProCA reads in all later clips. Embeddings are then also compared between clips.

    Args:
        network: the network.
        clip: the batch.
        settings: the recipe.
    """
    batch, length = clip.frames.shape[:2]
    device = clip.frames.device
    features = network.encode(clip.frames.flatten(0, 1).float() / 255)
    frame_index = _frame_index(clip)
    masks = _padded_masks(clip, features.mask_features)
    concepts = None if clip.categories is None else network.concepts(clip.vocabulary)
    windows = settings.windows(length)
    rows = torch.arange(batch * length, device=device).view(batch, length)  # of each frame in the features
    prompt_batch: PromptBatch | None = None
    if settings.prompts:
        prompt_batch = sample_prompts(network, clip, masks[:, :, slice(*windows[0])], concepts, settings)
    memory: VisualTokens | None = None
    losses, embeddings = [], []
    for number, (first, last) in enumerate(windows):
        scene = network.scene(features[rows[:, first:last].flatten()], frame_index[:, first:last])
        clip_masks = masks[:, :, first:last]
        prompts = None if prompt_batch is None else prompt_batch.for_window(scene, clip_masks, memory)
        outputs = network.decode(scene, prompts)
        learnable_targets = instance_targets(clip_masks, clip.categories)
        prompt_targets = None if prompt_batch is None else prompt_batch.targets(clip_masks)
        category_prompts = prompt_batch is not None and prompt_batch.kind == "category"
        terms, assignment = _clip_losses(
            network, outputs, learnable_targets, prompt_targets, concepts, category_prompts, settings
        )
        losses.append(terms)
        if len(windows) > 1:
            embeddings.append(
                _clip_embeddings(outputs[-1], learnable_targets, prompt_targets, assignment, category_prompts)
            )
            if number == 0 and prompt_batch is not None and not category_prompts:
                memory = prompt_batch.sample_memory_tokens(scene, clip_masks)
    mean = {name: term / len(losses) for name, term in sum_losses(losses).items()}
    return mean | _cross_clip_losses(embeddings, mean["mask"])


def instance_targets(masks: Tensor, categories: Tensor | None) -> Targets:
    """Return the targets of the learnable queries on a clip: all that are visible.

    Args:
        masks: bool (B, N, T, H, W).
        categories: int64 (B, N), or None.
    """
    visible = masks.flatten(2).any(2)
    numbers = torch.arange(masks.shape[1], device=masks.device).expand_as(visible)
    labels = torch.full_like(numbers, -1) if categories is None else categories
    return Targets(masks, torch.where(visible, numbers, -1), labels, visible)


def _frame_index(clip: Clip) -> Tensor:
    """Frame indices (B, T) of a batch, shifted so that none is larger than ``LAST_FRAME``."""
    batch, length = clip.frames.shape[:2]
    times = torch.arange(length, device=clip.frames.device).expand(batch, -1) if clip.times is None else clip.times
    return times - (times.amax(1, keepdim=True) - LAST_FRAME).clamp(min=0)


def _padded_masks(clip: Clip, mask_features: Tensor) -> Tensor:
    """Masks bool (B, N, T, H, W) over the padded frames; empty for rows that only pad the batch."""
    height, width = mask_features.shape[-2] * 4, mask_features.shape[-1] * 4
    padding = (0, width - clip.masks.shape[-1], 0, height - clip.masks.shape[-2])
    return F.pad(clip.masks, padding).transpose(1, 2) & clip.valid[:, :, None, None, None]


def _clip_losses(
    network: UniVSNetwork,
    outputs: list[Outputs],
    learnable_targets: Targets,
    prompt_targets: Targets | None,
    concepts: Tensor | None,
    category_prompts: bool,
    settings: TrainingSettings,
) -> tuple[dict[str, Tensor], Assignment]:
    """Losses of a clip summed over outputs, and the assignment of the last output."""
    points = PointSampling(settings.num_points, settings.oversample_ratio, settings.importance_sample_ratio)
    parts = []
    for output in outputs:
        logits = None
        if concepts is not None:
            learnable, prompt = output.learnable.classes, output.prompt.classes
            logits = (network.class_logits(learnable, concepts), network.class_logits(prompt, concepts))
        terms, assignment = output_losses(output, learnable_targets, prompt_targets, logits, category_prompts, points)
        parts.append({name: terms.get(name, terms["mask"] * 0) for name in LOSS_TERMS})
    return sum_losses(parts), assignment


def _clip_embeddings(
    output: Outputs,
    learnable_targets: Targets,
    prompt_targets: Targets | None,
    assignment: Assignment,
    category_prompts: bool,
) -> list[tuple[Tensor, Tensor]]:
    """Embeddings (A, C) and ids (A,) of a clip for each video, of assigned learnable queries and of prompt queries."""
    learnable = assigned_embeddings(output.learnable, learnable_targets, assignment)
    if prompt_targets is None:
        return learnable
    # categories are numbered behind the targets, so that the two are never taken for the same
    shift = learnable_targets.ids.shape[1] if category_prompts else 0
    prompt = assigned_embeddings(output.prompt, prompt_targets, prompt_assignment(prompt_targets))
    return [(torch.cat([a, b]), torch.cat([i, j + shift])) for (a, i), (b, j) in zip(learnable, prompt, strict=True)]


def _cross_clip_losses(clips: list[list[tuple[Tensor, Tensor]]], like: Tensor) -> dict[str, Tensor]:
    """ReID losses between the clips of each video, averaged over videos; zero if there is one clip.

    Args:
        clips: embeddings and ids of each clip and video.
        like: a loss, of which a zero is made.
    """
    losses = []
    for video in zip(*clips, strict=True):
        embeddings, ids = (torch.cat(part) for part in zip(*video, strict=True))
        losses.append(torch.stack(cross_clip_losses(embeddings, ids)))
    total = torch.stack(losses).mean(0) if losses else torch.stack([like * 0, like * 0])
    return dict(zip(CROSS_CLIP_TERMS, total, strict=True))
