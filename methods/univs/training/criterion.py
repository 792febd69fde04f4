"""Losses of one clip batch's outputs: classes, masks and embeddings of learnable and prompt queries.

Legend: B clips, T frames, Q queries, N targets, K names, P pairs of a target and a frame, R points, M matched queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from transformers.models.mask2former.modeling_mask2former import sample_point

from methods.univs.network.heads import Outputs, Predictions
from methods.univs.training.matcher import match
from methods.univs.training.reid import pair_losses

ALPHA, GAMMA = 0.5, 2.0


@dataclass(frozen=True)
class Points:
    """Where masks are compared.

    Attributes:
        count: R.
        oversample: candidates for each point.
        uncertain: share of the points that are the least certain candidates.
    """

    count: int = 12544
    oversample: float = 3.0
    uncertain: float = 0.5


@dataclass(frozen=True)
class Targets:
    """What the queries of one part should find; the rows of prompt targets are those of the prompts.

    Attributes:
        masks: bool (B, N, T, H, W), over the padded frames.
        ids: int64 (B, N), the same for one target wherever it occurs; -1 where there is nothing to find.
        labels: int64 (B, N), places in the vocabulary, -1 none.
        asked: bool (B, N), rows that do not only pad the batch.
    """

    masks: Tensor
    ids: Tensor
    labels: Tensor
    asked: Tensor

    @cached_property
    def visible(self) -> Tensor:
        """Bool (B, N, T)."""
        return self.masks.flatten(3).any(3)


@dataclass(frozen=True)
class Matched:
    """Queries with the targets that they should find, int64 (M,) each; ``itself``: those of prompts, row by row."""

    clip: Tensor
    query: Tensor
    target: Tensor
    itself: bool = False


def output_losses(
    outputs: Outputs,
    learned: Targets,
    prompted: Targets | None,
    logits: tuple[Tensor, Tensor] | None,
    categories: bool,
    points: Points,
) -> tuple[dict[str, Tensor], Matched]:
    """Losses of one output; a term of both parts is the mean of the two.

    Args:
        logits: class logits (B, Q, K) of the learnable and of the prompt queries, None where there are no classes.
        categories: the prompts are category names, ``prompted.ids`` categories.

    Returns:
        the terms, and the assignment of the learnable queries.
    """
    classes = None if logits is None else logits[0]
    found = assign(outputs.learnable, learned, classes, points.count)
    terms = part_losses(outputs.learnable, learned, found, classes, points)
    if prompted is None:
        return terms, found
    given = itself(prompted)
    own = part_losses(outputs.prompt, prompted, given, None if logits is None else logits[1], points)
    terms = {name: (terms[name] + own[name]) / 2 for name in terms}
    to_prompt, aux = cross_losses(outputs, learned, prompted, found, categories)
    terms |= {"reid_prompt": to_prompt, "reid_prompt_aux": aux}
    if categories:
        terms["semantic"] = semantic_loss(outputs.prompt.masks, prompted, points)
    return terms, found


def part_losses(
    predictions: Predictions, targets: Targets, matched: Matched, classes: Tensor | None, points: Points
) -> dict[str, Tensor]:
    """``class``, ``mask``, ``dice``, ``reid`` and ``reid_aux`` of one part."""
    frames = targets.masks.shape[2]
    logits = predictions.masks[matched.clip, matched.query].flatten(0, 1)
    truth = targets.masks[matched.clip, matched.target].flatten(0, 1)
    entropy, dice = mask_losses(logits, truth, points)
    count = _over_ranks(targets.asked.sum()) * frames
    reid = [pair_losses(rows, rows, ids, ids) for rows, ids in embedded(predictions, targets, matched)]
    similar, aux = (torch.stack(parts).mean() for parts in zip(*reid, strict=True))
    none = entropy.sum() * 0
    return {
        "class": none if classes is None else class_loss(classes, targets, matched),
        "mask": entropy.sum() / count,
        "dice": dice.sum() / count,
        "reid": similar,
        "reid_aux": aux,
    }


def assign(predictions: Predictions, targets: Targets, classes: Tensor | None, points: int) -> Matched:
    """The Hungarian assignment of each clip; see ``match``."""
    parts = []
    for clip, ids in enumerate(targets.ids):
        rows = (ids >= 0).nonzero()[:, 0]
        query, target = match(
            predictions.masks[clip],
            None if classes is None else classes[clip],
            targets.masks[clip, rows],
            targets.labels[clip, rows],
            points,
        )
        parts.append((torch.full_like(query, clip), query, rows[target]))
    clips, queries, rows = (torch.cat(part) for part in zip(*parts, strict=True))
    return Matched(clips, queries, rows)


def itself(targets: Targets) -> Matched:
    """Prompt query i with target i; rows without anything to find are left out."""
    clip, row = (targets.ids >= 0).nonzero().unbind(1)
    return Matched(clip, row, row, itself=True)


def class_loss(logits: Tensor, targets: Targets, matched: Matched) -> Tensor:
    """Sigmoid focal loss of all queries (alpha 0.5, gamma 2) over the number of positives + their mean cross-entropy.

    Over all clips at once, which is the mean over clips weighted by their positives.

    Args:
        logits: (B, Q, K).
    """
    logits = logits.float()
    labels = targets.labels[matched.clip, matched.target]
    truth = torch.zeros_like(logits)
    truth[matched.clip, matched.query, labels] = 1
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    prob = logits.sigmoid()
    missed = torch.where(truth > 0, 1 - prob, prob)
    weight = torch.where(truth > 0, ALPHA, 1 - ALPHA)
    focal = weight * missed**GAMMA * entropy
    if matched.itself:
        focal = focal * targets.asked[..., None]  # a row that pads the batch is no query
    return focal.sum() / max(1, len(labels)) + F.cross_entropy(logits[matched.clip, matched.query], labels)


def mask_losses(logits: Tensor, truth: Tensor, points: Points) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy, mean over points, and dice (smoothed by 1) of each pair, (P,) both.

    Args:
        logits: (P, h, w).
        truth: bool (P, H, W).
    """
    logits = logits[:, None].float()
    places = choose_points(logits, points)
    found, true = (
        sample_point(maps, places, align_corners=False)[:, 0] for maps in (logits, truth[:, None].to(logits.dtype))
    )
    entropy = F.binary_cross_entropy_with_logits(found, true, reduction="none").mean(1)
    prob = found.sigmoid()
    return entropy, 1 - (2 * (prob * true).sum(1) + 1) / (prob.sum(1) + true.sum(1) + 1)


@torch.no_grad()
def choose_points(logits: Tensor, points: Points) -> Tensor:
    """Places (P, R, 2) for logits (P, 1, h, w): where many candidates are the least certain, the others anywhere."""
    unsure = round(points.uncertain * points.count)
    candidates = torch.rand(len(logits), round(points.oversample * points.count), 2, device=logits.device)
    certainty = sample_point(logits, candidates, align_corners=False)[:, 0].abs()
    order = certainty.topk(unsure, largest=False).indices[..., None].expand(-1, -1, 2)
    anywhere = torch.rand(len(logits), points.count - unsure, 2, device=logits.device)
    return torch.cat([candidates.gather(1, order), anywhere], 1)


def semantic_loss(logits: Tensor, targets: Targets, points: Points) -> Tensor:
    """Cross-entropy at points over the category prompts of a clip that are present; points of no category are left out.

    Points are drawn where the largest logit is uncertain.

    Args:
        logits: (B, N, T, h, w).
    """
    parts = []
    for clip, ids in enumerate(targets.ids):
        rows = ids >= 0
        found = logits[clip, rows].transpose(0, 1).float()
        places = choose_points(found.max(1, keepdim=True).values, points)
        true = sample_point(targets.masks[clip, rows].transpose(0, 1).float(), places, align_corners=False)
        share, label = true.max(1)
        each = F.cross_entropy(sample_point(found, places, align_corners=False), label, reduction="none")
        covered = share > 0.5
        parts.append((each * covered).sum() / covered.sum().clamp(min=1))
    return torch.stack(parts).mean()


def cross_losses(
    outputs: Outputs, learned: Targets, prompted: Targets, found: Matched, categories: bool
) -> tuple[Tensor, Tensor]:
    """ReID losses of matched learnable queries to prompt queries: of the same target, or of the same category.

    A prompt query on a frame without its target is background. Category names have no cosine term.
    """
    terms = []
    for clip, (anchors, ids) in enumerate(embedded(outputs.learnable, learned, found, categories)):
        columns = outputs.prompt.embeddings[clip][prompted.asked[clip]].flatten(0, 1).float()
        shown = torch.where(prompted.visible[clip], prompted.ids[clip][:, None], -1)[prompted.asked[clip]].flatten()
        terms.append(pair_losses(anchors, columns, ids, shown))
    similar, aux = (torch.stack(parts).mean() for parts in zip(*terms, strict=True))
    return similar, aux * 0 if categories else aux


def embedded(
    predictions: Predictions, targets: Targets, matched: Matched, categories: bool = False
) -> list[tuple[Tensor, Tensor]]:
    """Of each clip the embeddings (A, C) of matched queries on frames that show their targets, and the ids (A,).

    Args:
        categories: the ids are categories.
    """
    rows = predictions.embeddings[matched.clip, matched.query].float()
    shown = targets.visible[matched.clip, matched.target]
    named = (targets.labels if categories else targets.ids)[matched.clip, matched.target]
    ids = named[:, None].expand_as(shown)
    clips = [matched.clip == clip for clip in range(len(targets.ids))]
    return [(rows[own][shown[own]], ids[own][shown[own]]) for own in clips]


def added(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Terms of several outputs, summed by name."""
    return {name: torch.stack([part[name] for part in parts]).sum() for name in parts[0]}


def _over_ranks(count: Tensor) -> Tensor:
    """A count averaged over the processes, at least 1."""
    count = count.float()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(count)
        count = count / dist.get_world_size()
    return count.clamp(min=1)
