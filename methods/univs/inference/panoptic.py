"""Predictions for a vocabulary: instances that may overlap (VIS), or disjoint panoptic segments (VPS).

Legend: E entities, K categories.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from common.nn.transfer import to_device
from common.video import FrameMasks
from methods.univs.inference.entity import Entity
from methods.univs.inference.mask_ops import mask_quality, upsample_logits
from methods.univs.inference.window import Window

_STUFF_FACTOR = 0.75  # on the scores of stuff, so that things take precedence


def fuse_segments(logits: Tensor, scores: Tensor, min_area_share: Tensor) -> Tensor:
    """Return disjoint masks bool (E, H, W): each pixel goes to the entity with the largest score x logit.

    Pixels that the winner does not claim (logit at most 0) stay empty, and so do those of an entity that loses too
    much of its area.

    Args:
        logits: (E, H, W).
        scores: (E,), positive.
        min_area_share: (E,), share of the pixels it claims that each entity must keep; 0 for stuff.
    """
    claimed = logits > 0
    winner = (logits * scores[:, None, None]).argmax(0)
    masks = claimed & (winner == torch.arange(len(logits), device=logits.device)[:, None, None])
    share = masks.flatten(1).sum(1) / claimed.flatten(1).sum(1).clamp(min=1)
    return masks & (share >= min_area_share)[:, None, None]


def predict_instances(
    frame: int, window: Window, entities: Sequence[Entity], categories: int, max_quality: float
) -> FrameMasks:
    """Return the instances of a frame; class scores are mean class probabilities x summed mask quality so far.

    Args:
        frame: index of the frame in the video.
        window: the last clip.
        entities: E entities.
        categories: number of categories, K.
        max_quality: largest summed quality of an entity so far, which normalises the scores.
    """
    visible, logits = _visible(frame, entities)
    if not visible:
        return _empty(frame, window, categories)
    masks = upsample_logits(logits, window.scene.size, window.size) > 0
    classes = torch.stack([entity.scores * entity.quality / (int(max_quality) + 1) for entity in visible])
    best = classes.max(1)
    ids = tuple(entity.id for entity in visible)
    return FrameMasks(frame, ids, masks, best.values, tuple(best.indices.tolist()), classes)


class PanopticSegments:
    """Panoptic predictions. Things keep their ids; stuff of one category is one segment throughout the video.

    Args:
        stuff: bool (K,), True for categories that cannot be counted.
        min_area_share: share of its area that a thing must keep; half of it once it was predicted, so that tracks
            are not interrupted.
        next_id: returns an unused id.
    """

    def __init__(self, stuff: Tensor, min_area_share: float, next_id: Callable[[], int]) -> None:
        self.stuff, self.min_area_share, self.next_id = stuff, min_area_share, next_id
        self.stuff_ids: dict[int, int] = {}  # by category

    def predict(self, frame: int, window: Window, entities: Sequence[Entity]) -> FrameMasks:
        """Return the segments of a frame.

        Args:
            frame: index of the frame in the video.
            window: the last clip.
            entities: E entities.
        """
        visible, logits = _visible(frame, entities)
        if not visible:
            return _empty(frame, window, len(self.stuff))
        classes = torch.stack([entity.scores for entity in visible])
        best, category = classes.max(1)
        stuff, categories = self.stuff[category], category.tolist()
        predicted = to_device([entity.predicted for entity in visible], best.device)
        logits = upsample_logits(logits, window.scene.size, window.size)
        scores = best * mask_quality(logits[:, None])
        scores = torch.where(stuff & ~predicted, _STUFF_FACTOR * scores, scores)
        shares = torch.where(predicted, self.min_area_share / 2, self.min_area_share).masked_fill(stuff, 0.0)
        masks = fuse_segments(logits, scores, shares)
        # several entities can be parts of the same stuff: their masks are merged into the row of the first
        rows: dict[int, int] = {}  # row of each segment, by id
        for row, (entity, place) in enumerate(zip(visible, categories, strict=True)):
            if not masks[row].any():
                continue
            if stuff[row]:
                if place not in self.stuff_ids:
                    self.stuff_ids[place] = self.next_id()
                first = rows.setdefault(self.stuff_ids[place], row)
                masks[first] |= masks[row]
            else:
                entity.predicted, rows[entity.id] = True, row
        ids = sorted(rows)
        order = [rows[segment] for segment in ids]
        return FrameMasks(
            frame, tuple(ids), masks[order], scores[order], tuple(categories[row] for row in order), classes[order]
        )


def _empty(frame: int, window: Window, categories: int) -> FrameMasks:
    """A prediction without targets."""
    blank = torch.zeros(0, *window.size, device=window.scene.mask_features.device)
    return FrameMasks(frame, (), blank > 0, blank[:, 0, 0], (), blank.new_zeros(0, categories))


def _visible(frame: int, entities: Sequence[Entity]) -> tuple[list[Entity], Tensor]:
    """Entities with a non-empty mask on a frame, by id, and their logits (E, h, w)."""
    pairs = [(entity, entity.pool.mask_logits(frame)) for entity in sorted(entities, key=lambda entity: entity.id)]
    visible = [(entity, logits) for entity, logits in pairs if logits is not None and (logits > 0).any()]
    logits = torch.stack([logits for _, logits in visible]) if visible else torch.empty(0)
    return [entity for entity, _ in visible], logits
