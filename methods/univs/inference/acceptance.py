"""Which predicted masks of targets are accepted in a clip.

Legend: N targets, T frames of the clip, Q learnable queries, P stored embeddings, C channels; h and w at stride 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from methods.univs.inference.mask_ops import mask_iou, mask_quality, resolve_overlaps, upsample_logits
from methods.univs.inference.memory_pool import consistency
from methods.univs.network.decoder import Predictions
from methods.univs.settings import InferenceSettings

PlacedMask = tuple[int, Tensor]  # index of a frame in the clip, and a mask at the size of the network's frame


class AcceptedMasks(NamedTuple):
    """Masks of targets in a clip, and which of them to use.

    Attributes:
        masks: logits (N, T, h, w).
        embeddings: (N, T, C).
        accepted: bool (N,), False for targets whose predictions are discarded in this clip.
    """

    masks: Tensor
    embeddings: Tensor
    accepted: Tensor


def select_queries(predictions: Predictions, rows: Sequence[int] | Tensor) -> Predictions:
    """Return the predictions of selected queries.

    Args:
        predictions: of one clip, without a batch dimension.
        rows: indices of the queries.
    """
    return Predictions(predictions.masks[rows], predictions.classes[rows], predictions.embeddings[rows])


def accept_all(predictions: Predictions) -> AcceptedMasks:
    """Accept every mask: the rule for expressions in their first clip."""
    accepted = torch.ones(len(predictions.masks), dtype=torch.bool)
    return AcceptedMasks(predictions.masks, predictions.embeddings, accepted)


def accept_first(
    predictions: Predictions,
    prompt_masks: Sequence[PlacedMask | None],
    frame_size: tuple[int, int],
    settings: InferenceSettings,
) -> AcceptedMasks:
    """Accept masks of visual prompts in the first clip that shows the targets.

    Targets compete for pixels with IoU² x quality, where the IoU is that with the prompt mask. Those whose IoU is then
    above ``min_first_iou`` (less for small masks) are accepted.

    Args:
        predictions: of the targets' prompt queries.
        prompt_masks: for each target the user's mask, or None for a box or points, whose IoU counts as 1.
        frame_size: height and width of the network's frame before padding.
        settings: thresholds.
    """
    weights = _prompt_iou(predictions.masks, prompt_masks, frame_size) ** 2 * mask_quality(predictions.masks)
    masks, _ = resolve_overlaps(predictions.masks, weights)
    # the IoU is taken again, as a target may have lost pixels that belong to its prompt mask
    areas = masks.new_tensor([0 if placed is None else int(placed[1].sum()) for placed in prompt_masks])
    min_iou = settings.min_first_iou * (areas / settings.small_area).clamp(max=1)
    return AcceptedMasks(masks, predictions.embeddings, _prompt_iou(masks, prompt_masks, frame_size) > min_iou)


def accept_tracked(
    predictions: Predictions,
    past: Sequence[Tensor],
    min_similarity: float,
    min_area_share: float | None,
    class_scores: Tensor | None = None,
) -> AcceptedMasks:
    """Accept masks of targets in memory that are consistent with it and keep their pixels against other targets.

    Prompted targets compete with similarity² x quality, and lose the pixels that go to others. Entities compete with
    similarity x class score x quality; the competition decides which are accepted, but leaves their masks as they are.

    Args:
        predictions: of the targets' queries.
        past: embeddings (P, C) in the memory of each target, oldest first.
        min_similarity: consistency that must be exceeded.
        min_area_share: share of its area that a target must keep in the competition; None = no competition.
        class_scores: (N,), of entities; None for prompted targets.
    """
    pairs = zip(past, predictions.embeddings, strict=True)
    similarity = torch.stack([consistency(embeddings, current) for embeddings, current in pairs])
    accepted, masks = similarity > min_similarity, predictions.masks
    if min_area_share is not None and accepted.any():
        weights = similarity * (similarity if class_scores is None else class_scores) * mask_quality(masks)
        resolved, shares = resolve_overlaps(masks[accepted], weights[accepted])
        if class_scores is None:
            masks = masks.clone()
            masks[accepted] = resolved
        # the index is a copy: the mask must not change while it selects
        accepted[accepted.clone()] = shares > min_area_share
    return AcceptedMasks(masks, predictions.embeddings, accepted)


def most_similar_queries(learnable: Predictions, past: Sequence[Tensor]) -> Predictions:
    """Return for each target the learnable query that is most consistent with its memory: tracking by similarity.

    Args:
        learnable: predictions of the learnable queries.
        past: embeddings (P, C) in the memory of each target, oldest first.
    """
    best = torch.stack([consistency(embeddings, learnable.embeddings) for embeddings in past]).argmax(1)
    return select_queries(learnable, best)


def _prompt_iou(masks: Tensor, prompt_masks: Sequence[PlacedMask | None], frame_size: tuple[int, int]) -> Tensor:
    """IoU (N,) of predicted masks (N, T, h, w) with the prompt masks; 1 where there is no prompt mask."""
    out = masks.new_ones(len(prompt_masks))
    for row, placed in enumerate(prompt_masks):
        if placed is not None:
            frame, prompt_mask = placed
            predicted = upsample_logits(masks[row, frame][None], frame_size) > 0
            out[row] = mask_iou(predicted, prompt_mask[None])[0, 0]
    return out
