"""Answers to a vocabulary: instances that may overlap (VIS), or segments that share out the pixels (VPS)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from common.video import FrameMasks
from methods.univs.inference.entity import Entity
from methods.univs.inference.mask_ops import quality, to_frame
from methods.univs.inference.window import Window

_STUFF = 0.75  # factor of the score of stuff, so that things come first


def fuse(logits: Tensor, scores: Tensor, kept: Tensor) -> Tensor:
    """Masks bool (E, H, W) without overlaps: each pixel goes to the entity with the largest score times logit.

    A pixel that no entity claims goes to none, and so do those of an entity that keeps less of its own area than it
    must.

    Args:
        logits: (E, H, W).
        scores: (E,), positive.
        kept: (E,), share of the pixels that it claims that each must keep; 0 for stuff.
    """
    claimed = logits > 0
    winner = (logits * scores[:, None, None]).argmax(0)
    masks = claimed & (winner == torch.arange(len(logits), device=logits.device)[:, None, None])
    share = masks.flatten(1).sum(1) / claimed.flatten(1).sum(1).clamp(min=1)
    return masks & (share >= kept)[:, None, None]


def instances(frame: int, window: Window, entities: Sequence[Entity], names: int, surest: float) -> FrameMasks:
    """Entities as they are; a class score is the mean class probability times the masks' quality over all clips so far.

    Args:
        surest: the largest quality of an entity so far, by which it is divided.
    """
    shown, logits = _shown(frame, entities)
    if not shown:
        return nothing(frame, window, names)
    masks = to_frame(logits, window.scene.size, window.size) > 0
    classes = torch.stack([entity.scores * entity.quality / (int(surest) + 1) for entity in shown])
    best = classes.max(1)
    return FrameMasks(frame, tuple(e.id for e in shown), masks, best.values, tuple(best.indices.tolist()), classes)


class Segments:
    """Panoptic answers. Things keep their ids; stuff of one category is one segment of the whole video.

    Args:
        stuff: bool (K,), categories that cannot be counted.
        kept: share of its area that a thing must keep, half of it once it has been in an answer.
        number: gives an id that is not taken.
    """

    def __init__(self, stuff: Tensor, kept: float, number: Callable[[], int]) -> None:
        self.stuff, self.kept, self.number = stuff, kept, number
        self.ids: dict[int, int] = {}  # of stuff, by category

    def answer(self, frame: int, window: Window, entities: Sequence[Entity]) -> FrameMasks:
        """Segments of a frame."""
        shown, logits = _shown(frame, entities)
        if not shown:
            return nothing(frame, window, len(self.stuff))
        classes = torch.stack([entity.scores for entity in shown])
        best, category = classes.max(1)
        stuff, categories = self.stuff[category], category.tolist()
        known = torch.tensor([entity.answered for entity in shown], device=best.device)
        logits = to_frame(logits, window.scene.size, window.size)
        scores = best * quality(logits[:, None])
        scores = torch.where(stuff & ~known, _STUFF * scores, scores)
        kept = torch.where(known, self.kept / 2, self.kept).masked_fill(stuff, 0.0)
        masks = fuse(logits, scores, kept)
        rows: dict[int, int] = {}  # of each segment, by id
        for row, (entity, place) in enumerate(zip(shown, categories, strict=True)):
            if not masks[row].any():
                continue
            if stuff[row]:
                if place not in self.ids:
                    self.ids[place] = self.number()
                first = rows.setdefault(self.ids[place], row)
                masks[first] |= masks[row]
            else:
                entity.answered, rows[entity.id] = True, row
        ids = sorted(rows)
        order = [rows[id] for id in ids]
        return FrameMasks(
            frame, tuple(ids), masks[order], scores[order], tuple(categories[row] for row in order), classes[order]
        )


def nothing(frame: int, window: Window, names: int) -> FrameMasks:
    """An answer without targets."""
    blank = torch.zeros(0, *window.size, device=window.scene.mask.device)
    return FrameMasks(frame, (), blank > 0, blank[:, 0, 0], (), blank.new_zeros(0, names))


def _shown(frame: int, entities: Sequence[Entity]) -> tuple[list[Entity], Tensor]:
    """Entities that show on a frame, by id, and their logits (E, h, w)."""
    pairs = [(entity, entity.pool.masks(frame)) for entity in sorted(entities, key=lambda entity: entity.id)]
    found = [(entity, logits) for entity, logits in pairs if logits is not None and (logits > 0).any()]
    return [entity for entity, _ in found], torch.stack([x for _, x in found]) if found else torch.empty(0)
