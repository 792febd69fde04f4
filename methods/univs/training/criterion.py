"""Assignment of queries to targets, and losses on their classes, masks and embeddings, for one output of the decoder.

Learnable queries are assigned by the Hungarian algorithm, over all frames of a clip at once; the target of a prompt
query is known.

Legend: B clips, T frames, Q queries, N targets, K categories, P pairs of a target and a frame, R points, M assigned
queries, A embeddings of assigned queries, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.distributed as dist
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from transformers.models.mask2former.modeling_mask2former import sample_point

from common.nn.losses import dice_loss, sample_uncertain_points, sigmoid_focal_loss
from methods.univs.network.decoder import Outputs, Predictions
from methods.univs.training.reid import reid_losses

FOCAL_ALPHA, FOCAL_GAMMA = 0.5, 2.0
CLASS_COST, MASK_COST, DICE_COST = 3.0, 5.0, 5.0
_SHARPNESS = 5.0  # of the softmax in the class cost


@dataclass(frozen=True)
class PointSampling:
    """Points at which masks are compared with their targets (PointRend).

    Attributes:
        num_points: R.
        oversample_ratio: candidates drawn for each point.
        importance_sample_ratio: share of the points that are the most uncertain candidates; the others are uniform.
    """

    num_points: int = 12544
    oversample_ratio: float = 3.0
    importance_sample_ratio: float = 0.5

    def sample(self, logits: Tensor) -> Tensor:
        """Return points (P, R, 2), x and y in 0 to 1, for logits (P, 1, h, w)."""
        return sample_uncertain_points(
            lambda points: sample_point(logits, points, align_corners=False)[:, 0].abs(),
            len(logits),
            self.num_points,
            self.oversample_ratio,
            self.importance_sample_ratio,
            logits.device,
        )


@dataclass(frozen=True)
class Targets:
    """Targets of one stream of queries; targets of prompts are in the order of the prompts.

    Attributes:
        masks: bool (B, N, T, H, W), over the padded frames.
        ids: int64 (B, N), the same for one target wherever it occurs; -1 where there is nothing to find.
        labels: int64 (B, N), indices in the vocabulary; -1 = none.
        valid: bool (B, N), False for rows that only pad the batch.
    """

    masks: Tensor
    ids: Tensor
    labels: Tensor
    valid: Tensor

    @cached_property
    def visible(self) -> Tensor:
        """Bool (B, N, T), True on frames that show the target."""
        return self.masks.flatten(3).any(3)


@dataclass(frozen=True)
class Assignment:
    """Pairs of a query and a target, int64 (M,) each.

    Attributes:
        clip: index of the clip in the batch.
        query: index of the query.
        target: index of the target.
        of_prompts: True for prompt queries, whose targets are those of the same index.
    """

    clip: Tensor
    query: Tensor
    target: Tensor
    of_prompts: bool = False


def output_losses(
    outputs: Outputs,
    learnable_targets: Targets,
    prompt_targets: Targets | None,
    logits: tuple[Tensor, Tensor] | None,
    category_prompts: bool,
    points: PointSampling,
) -> tuple[dict[str, Tensor], Assignment]:
    """Return the losses of one output; terms that both streams have are averaged over the two.

    Args:
        outputs: predictions of both streams.
        learnable_targets: targets of the learnable queries.
        prompt_targets: targets of the prompt queries; None without prompts.
        logits: class logits (B, Q, K) of the learnable and of the prompt queries; None without categories.
        category_prompts: the prompts are category names, and ``prompt_targets.ids`` categories.
        points: points of the mask losses.

    Returns:
        The losses by name, and the assignment of the learnable queries.
    """
    class_logits = None if logits is None else logits[0]
    assignment = assign(outputs.learnable, learnable_targets, class_logits, points.num_points)
    losses = stream_losses(outputs.learnable, learnable_targets, assignment, class_logits, points)
    if prompt_targets is None:
        return losses, assignment
    class_logits = None if logits is None else logits[1]
    fixed = prompt_assignment(prompt_targets)
    prompt_losses = stream_losses(outputs.prompt, prompt_targets, fixed, class_logits, points)
    losses = {name: (losses[name] + prompt_losses[name]) / 2 for name in losses}
    contrast, aux = prompt_reid_losses(outputs, learnable_targets, prompt_targets, assignment, category_prompts)
    losses |= {"reid_prompt": contrast, "reid_prompt_aux": aux}
    if category_prompts:
        losses["semantic"] = semantic_loss(outputs.prompt.masks, prompt_targets, points)
    return losses, assignment


def stream_losses(
    predictions: Predictions, targets: Targets, assignment: Assignment, logits: Tensor | None, points: PointSampling
) -> dict[str, Tensor]:
    """Return ``class``, ``mask``, ``dice``, ``reid`` and ``reid_aux`` of one stream of queries.

    Args:
        predictions: of the stream.
        targets: of the stream.
        assignment: of its queries to the targets.
        logits: class logits (B, Q, K); None without categories.
        points: points of the mask losses.
    """
    frames = targets.masks.shape[2]
    masks = predictions.masks[assignment.clip, assignment.query].flatten(0, 1)
    truth = targets.masks[assignment.clip, assignment.target].flatten(0, 1)
    entropy, dice = mask_losses(masks, truth, points)
    # prompts whose target is absent count too; averaged over the processes as in Mask2Former
    count = _mean_over_ranks(targets.valid.sum()) * frames
    reid = [reid_losses(rows, rows, ids, ids) for rows, ids in assigned_embeddings(predictions, targets, assignment)]
    contrast, aux = (torch.stack(parts).mean() for parts in zip(*reid, strict=True))
    zero = entropy.sum() * 0  # stays connected to the network, as distributed training requires
    return {
        "class": zero if logits is None else class_loss(logits, targets, assignment),
        "mask": entropy.sum() / count,
        "dice": dice.sum() / count,
        "reid": contrast,
        "reid_aux": aux,
    }


def assign(predictions: Predictions, targets: Targets, logits: Tensor | None, points: int) -> Assignment:
    """Assign learnable queries to the targets of each clip; see ``match``.

    Args:
        predictions: of the learnable queries.
        targets: their targets.
        logits: class logits (B, Q, K); None without categories.
        points: points of the mask cost.
    """
    parts = []
    for clip, ids in enumerate(targets.ids):
        rows = (ids >= 0).nonzero()[:, 0]
        query, target = match(
            predictions.masks[clip],
            None if logits is None else logits[clip],
            targets.masks[clip, rows],
            targets.labels[clip, rows],
            points,
        )
        parts.append((torch.full_like(query, clip), query, rows[target]))
    clips, queries, rows = (torch.cat(part) for part in zip(*parts, strict=True))
    return Assignment(clips, queries, rows)


def prompt_assignment(targets: Targets) -> Assignment:
    """Assign prompt query i to target i, for all targets that have something to find."""
    clip, row = (targets.ids >= 0).nonzero().unbind(1)
    return Assignment(clip, row, row, of_prompts=True)


@torch.no_grad()
def match(masks: Tensor, logits: Tensor | None, truth: Tensor, labels: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """Match queries and targets of one clip one to one, and return their indices, int64 (min(Q, N),) each.

    The cost is 3 class + 5 cross-entropy + 5 dice, the latter two on random points that all queries, targets and
    frames share.

    Args:
        masks: logits (Q, T, h, w).
        logits: class logits (Q, K); None without categories.
        truth: bool (N, T, H, W).
        labels: int64 (N,), indices in the vocabulary.
        points: number of points, R.
    """
    places = torch.rand(1, points, 2, device=masks.device)
    cost = mask_cost(_at_points(masks, places), _at_points(truth.float(), places))
    if logits is not None:
        cost = cost + CLASS_COST * class_cost(logits.float(), labels)
    # linear_sum_assignment refuses NaN; such pairs are the last to be chosen
    rows, columns = linear_sum_assignment(cost.nan_to_num(1e6).cpu().numpy())
    return torch.as_tensor(rows, device=masks.device), torch.as_tensor(columns, device=masks.device)


def class_cost(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the class cost (Q, N): -softmax(5 sigmoid(logits)) at the labels.

    Args:
        logits: (Q, K).
        labels: int64 (N,).
    """
    return -(_SHARPNESS * logits.sigmoid()).softmax(-1)[:, labels]


def mask_cost(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the mask cost (Q, N): 5 cross-entropy + 5 dice.

    Args:
        logits: (Q, T R), at the points of all frames.
        truth: (N, T R), 0 to 1, at the same points.
    """
    count = logits.shape[1]
    entropy = (F.softplus(-logits) @ truth.T + F.softplus(logits) @ (1 - truth).T) / count
    prob = logits.sigmoid()
    overlap = 2 * prob @ truth.T + 1
    return MASK_COST * entropy + DICE_COST * (1 - overlap / (prob.sum(1)[:, None] + truth.sum(1) + 1))


def class_loss(logits: Tensor, targets: Targets, assignment: Assignment) -> Tensor:
    """Return the sigmoid focal loss of all queries over the number of positives, plus their mean cross-entropy.

    Both are taken over all clips at once, which weights clips by their positives; without positives, as where all
    targets have left the clip, the cross-entropy is 0, as in the released code.

    Args:
        logits: class logits (B, Q, K).
        targets: targets of the queries.
        assignment: of the queries to the targets.
    """
    logits = logits.float()
    labels = targets.labels[assignment.clip, assignment.target]
    truth = torch.zeros_like(logits, dtype=torch.bool)
    truth[assignment.clip, assignment.query, labels] = True
    focal = sigmoid_focal_loss(logits, truth, FOCAL_ALPHA, FOCAL_GAMMA)
    if assignment.of_prompts:
        focal = focal * targets.valid[..., None]  # rows that pad the batch are no queries
    positives = max(1, len(labels))
    entropy = F.cross_entropy(logits[assignment.clip, assignment.query], labels, reduction="sum")
    return (focal.sum() + entropy) / positives


def mask_losses(logits: Tensor, truth: Tensor, points: PointSampling) -> tuple[Tensor, Tensor]:
    """Return the binary cross-entropy and the dice loss of each pair, (P,) both.

    Args:
        logits: (P, h, w).
        truth: bool (P, H, W).
        points: how the points are sampled.
    """
    logits = logits[:, None].float()
    places = points.sample(logits)
    predicted, true = (
        sample_point(maps, places, align_corners=False)[:, 0] for maps in (logits, truth[:, None].to(logits.dtype))
    )
    entropy = F.binary_cross_entropy_with_logits(predicted, true, reduction="none").mean(1)
    return entropy, dice_loss(predicted[:, None, None], true[:, None])[:, 0]


def semantic_loss(logits: Tensor, targets: Targets, points: PointSampling) -> Tensor:
    """Return the cross-entropy at points between the category prompts of a clip that are present.

    Points that no category covers are ignored, and so is a clip that no category is left in, as in the released code.

    Args:
        logits: mask logits of the prompt queries (B, N, T, h, w).
        targets: their targets.
        points: how the points are sampled; uncertainty is that of the largest logit.
    """
    losses = []
    for clip, ids in enumerate(targets.ids):
        present = ids >= 0
        masks = logits[clip, present].transpose(0, 1).float()
        if not masks.shape[1]:
            losses.append(masks.sum())
            continue
        places = points.sample(masks.max(1, keepdim=True).values)
        true = sample_point(targets.masks[clip, present].transpose(0, 1).float(), places, align_corners=False)
        share, label = true.max(1)
        each = F.cross_entropy(sample_point(masks, places, align_corners=False), label, reduction="none")
        covered = share > 0.5  # the other points lie outside of all masks
        losses.append((each * covered).sum() / covered.sum().clamp(min=1))
    return torch.stack(losses).mean()


def prompt_reid_losses(
    outputs: Outputs, learnable_targets: Targets, prompt_targets: Targets, assignment: Assignment, categories: bool
) -> tuple[Tensor, Tensor]:
    """Return ReID losses between assigned learnable queries and the prompt queries of their target or category.

    A prompt query on a frame that does not show its target is a negative of all. Category names have no cosine loss:
    several targets share them.

    Args:
        outputs: predictions of both streams.
        learnable_targets: targets of the learnable queries.
        prompt_targets: targets of the prompt queries.
        assignment: of the learnable queries.
        categories: the prompts are category names.
    """
    losses = []
    anchors_by_clip = assigned_embeddings(outputs.learnable, learnable_targets, assignment, categories)
    for clip, (anchors, ids) in enumerate(anchors_by_clip):
        valid = prompt_targets.valid[clip]
        columns = outputs.prompt.embeddings[clip][valid].flatten(0, 1).float()
        column_ids = torch.where(prompt_targets.visible[clip], prompt_targets.ids[clip][:, None], -1)[valid].flatten()
        losses.append(reid_losses(anchors, columns, ids, column_ids))
    contrast, aux = (torch.stack(parts).mean() for parts in zip(*losses, strict=True))
    return contrast, aux * 0 if categories else aux


def assigned_embeddings(
    predictions: Predictions, targets: Targets, assignment: Assignment, categories: bool = False
) -> list[tuple[Tensor, Tensor]]:
    """Return for each clip embeddings (A, C) of assigned queries on frames that show their targets, and ids (A,).

    Args:
        predictions: of the queries.
        targets: their targets.
        assignment: of the queries to the targets.
        categories: return categories in place of target ids.
    """
    rows = predictions.embeddings[assignment.clip, assignment.query].float()
    visible = targets.visible[assignment.clip, assignment.target]
    ids = (targets.labels if categories else targets.ids)[assignment.clip, assignment.target]
    # a query is a target's embedding on the frames that show the target, and nothing on the others
    ids = ids[:, None].expand_as(visible)
    clips = [assignment.clip == clip for clip in range(len(targets.ids))]
    return [(rows[clip][visible[clip]], ids[clip][visible[clip]]) for clip in clips]


def sum_losses(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the losses of several outputs, summed by name."""
    return {name: torch.stack([part[name] for part in parts]).sum() for name in parts[0]}


def _at_points(maps: Tensor, places: Tensor) -> Tensor:
    """Values (X, T R) of maps (X, T, h, w) at points (1, R, 2) of every frame."""
    values: Tensor = sample_point(maps.float(), places.expand(len(maps), -1, -1), align_corners=False)
    return values.flatten(1)


def _mean_over_ranks(count: Tensor) -> Tensor:
    """A count averaged over the processes, at least 1."""
    count = count.float()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(count)
        count = count / dist.get_world_size()
    return count.clamp(min=1)
