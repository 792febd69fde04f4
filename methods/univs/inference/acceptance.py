"""Which masks of targets count in a clip: the rules of inference with prompts.

Legend: N targets, T frames of the clip, Q learnable queries, C channels; h and w at stride 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from methods.univs.inference.mask_ops import compete, mask_iou, quality, to_frame
from methods.univs.inference.memory_pool import consistency
from methods.univs.inference.settings import InferenceSettings
from methods.univs.network.heads import Predictions


class Accepted(NamedTuple):
    """Masks that count.

    Attributes:
        masks: logits (N, T, h, w).
        embeddings: (N, T, C).
        kept: bool (N,), False where nothing of a target counts in this clip.
    """

    masks: Tensor
    embeddings: Tensor
    kept: Tensor


def pick(found: Predictions, rows: Sequence[int] | Tensor) -> Predictions:
    """Some of the queries."""
    return Predictions(found.masks[rows], found.classes[rows], found.embeddings[rows])


def accept_all(found: Predictions) -> Accepted:
    """Expressions in their first clip: taken as they are."""
    return Accepted(found.masks, found.embeddings, torch.ones(len(found.masks), dtype=torch.bool))


def accept_first(
    found: Predictions, given: list[tuple[int, Tensor] | None], inner: tuple[int, int], settings: InferenceSettings
) -> Accepted:
    """Targets in the first clip that shows them.

    Targets compete with the squared IoU with the given mask, times quality; only those whose IoU then still exceeds
    ``first_iou`` (less for small ones) are kept.

    Args:
        given: for each target the place in the clip of its given mask and that mask, bool at the size ``inner`` of the
            network's frame; None of a box or points, for which the IoU counts as 1.
    """
    masks, _ = compete(found.masks, _given_iou(found.masks, given, inner) ** 2 * quality(found.masks))
    areas = [0 if one is None else int(one[1].sum()) for one in given]
    least = settings.first_iou * (masks.new_tensor(areas) / settings.first_area).clamp(max=1)
    return Accepted(masks, found.embeddings, _given_iou(masks, given, inner) > least)


def accept_known(
    found: Predictions, past: list[Tensor], least: float, share: float | None, factor: Tensor | None = None
) -> Accepted:
    """Targets that are in the memory: what is not like it is discarded, then what loses the competition for pixels.

    Given targets compete with squared similarity times quality, and what they lose is taken from them; entities with
    similarity times quality times ``factor``, and those that are kept are kept as they are.

    Args:
        past: (P, C) for each target, its embeddings in memory, oldest first.
        least: similarity that must be exceeded.
        share: of its area, what a target must have after the competition; None = there is none.
        factor: (N,), of entities.
    """
    pairs = zip(past, found.embeddings, strict=True)
    similar = torch.stack([consistency(memory, now) for memory, now in pairs])
    kept, masks = similar > least, found.masks
    if share is not None and kept.any():
        weights = similar * (similar if factor is None else factor) * quality(masks)
        shared, shares = compete(masks[kept], weights[kept])
        if factor is None:
            masks = masks.clone()
            masks[kept] = shared
        kept[kept.clone()] = shares > share
    return Accepted(masks, found.embeddings, kept)


def recognise(learnable: Predictions, past: list[Tensor]) -> Predictions:
    """For each target the learnable query that is most like its memory: tracking by similarity."""
    best = torch.stack([consistency(memory, learnable.embeddings) for memory in past]).argmax(1)
    return pick(learnable, best)


def _given_iou(masks: Tensor, given: Sequence[tuple[int, Tensor] | None], inner: tuple[int, int]) -> Tensor:
    """IoU (N,) of masks with the given ones."""
    out = masks.new_ones(len(given))
    for row, one in enumerate(given):
        if one is not None:
            out[row] = mask_iou(to_frame(masks[row, one[0]][None], inner) > 0, one[1][None])[0, 0]
    return out
