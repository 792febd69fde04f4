"""Targets found by category (VIS, VPS), clip by clip: detection, association, and tracking by prompts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from common.video import FrameMasks
from methods.univs.inference.acceptance import accept_known
from methods.univs.inference.association import bi_softmax, candidates, match
from methods.univs.inference.entity import Entity
from methods.univs.inference.mask_ops import coarse_to_frame, frame_iou, quality
from methods.univs.inference.memory_pool import Pool
from methods.univs.inference.panoptic import Segments, instances
from methods.univs.inference.settings import InferenceSettings
from methods.univs.inference.window import Window, float32, pool_prompts
from methods.univs.network.heads import Predictions
from methods.univs.network.model import UniVSNetwork

_RECENT = 3  # embeddings of an entity that candidates are compared with, and that a new slot starts from


class Entities:
    """See ``Task``. Names that are stuff make it panoptic."""

    stride = 1
    idle = False

    def __init__(
        self, model: UniVSNetwork, settings: InferenceSettings, vocabulary: Sequence[str], stuff: Sequence[str]
    ) -> None:
        self.model, self.settings = model, settings
        self.limits = settings.panoptic if stuff else settings.instances
        self.concepts = model.concepts(vocabulary)
        self.stuff = torch.tensor([name in stuff for name in vocabulary], device=self.concepts.device)
        self.entities: list[Entity] = []
        self._segments = Segments(self.stuff, self.limits.kept, self._number) if stuff else None
        self._numbers = 0
        self._surest = 0.0  # largest sum of quality so far
        self._start: int | None = None  # first frame of the first clip

    def look(self, window: Window) -> None:
        """Take the next clip."""
        settings, known = self.settings, list(self.entities)
        self._start = window.frames[0] if self._start is None else self._start
        clip = window.frames[0] - self._start
        for entity in known:
            entity.reach(window.frames[-1], _RECENT)
        prompts = None
        if known and settings.tracking == "prompts":
            prompts = pool_prompts(self.model, [e.pool for e in known], window.frames, settings.memory)
        out = self.model.decode(window.scene, prompts, every=False)[-1]
        if prompts is not None:
            self._follow(known, float32(out.prompt), window, clip)
        if clip % settings.interval == 0 or not known or settings.tracking == "similarity":
            self._detect(known, float32(out.learnable), window)
        self.entities.sort(key=lambda entity: entity.seen, reverse=True)
        del self.entities[settings.entities :]
        for entity in self.entities:
            window.renew(entity.pool, settings.points)
            entity.pool.trim(max(settings.memory, _RECENT), window.frames[0])

    def answer(self, frame: int, window: Window) -> FrameMasks:
        """Entities with a mask on the frame, or segments."""
        if self._segments is None:
            self._surest = max([self._surest, *(entity.quality for entity in self.entities)])
            return instances(frame, window, self.entities, len(self.concepts), self._surest)
        return self._segments.answer(frame, window, self.entities)

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _follow(self, known: list[Entity], found: Predictions, window: Window, clip: int) -> None:
        """What the prompts of known entities found, where it is like them; instances compete for the pixels."""
        limits, sharpness = self.limits, quality(found.masks).tolist()
        past = [entity.pool.embeddings(max(self.settings.memory, _RECENT)) for entity in known]
        least = limits.similarity / 2 if clip < self.settings.clip else limits.similarity
        share = limits.kept if self._segments is None else None
        sure = torch.stack([entity.scores.max() for entity in known])
        accepted = accept_known(found, past, least, share, sure)
        for row, entity in enumerate(known):
            if accepted.kept[row]:
                entity.add(window, accepted.masks[row], sharpness[row])
                entity.resemble(window, accepted.embeddings[row])

    def _detect(self, known: list[Entity], found: Predictions, window: Window) -> None:
        """Candidates among the learnable queries: more about a known entity, or a new one.

        As released, panoptic candidates are all queries once an entity is known; a candidate that is like an entity,
        but not enough for its masks to count, may become a new one.
        """
        limits, sharpness = self.limits, quality(found.masks)
        probs = self.model.class_logits(found.classes, self.concepts).sigmoid() * sharpness[:, None]
        rows = torch.arange(len(probs), device=probs.device)
        if not known or self._segments is None:
            rows = candidates(probs, found.masks > 0, sharpness, self.stuff, limits)
        taken = set()
        for entity, place, similarity in self._match(known, found.embeddings[rows]):
            row = rows[place]
            entity.classes = (entity.classes + probs[row]) / 2
            entity.resemble(window, found.embeddings[row])
            if similarity > limits.merge or self.settings.tracking == "similarity":
                entity.add(window, found.masks[row], float(sharpness[row]))
                taken.add(place)
        shapes = torch.stack([entity.shape(window) for entity in known]) if known else None
        for place, row in enumerate(rows.tolist()):
            if place in taken or probs[row].max() <= (limits.later if known else limits.first):
                continue
            if shapes is None or frame_iou(found.masks[row] > 0, shapes).max() < limits.new_overlap:
                self._begin(found, row, probs[row], float(sharpness[row]), window)

    def _match(self, known: list[Entity], now: Tensor) -> list[tuple[Entity, int, float]]:
        """Known entities with the place of their candidate (K, T, C), and how surely it is theirs."""
        if not known or not len(now):
            return []
        past = [entity.pool.embeddings(_RECENT) for entity in known]
        past = [torch.cat([one[:1].expand(_RECENT - len(one), -1), one]) for one in past]
        similarity = bi_softmax(torch.stack(past), now)
        return [(known[e], k, float(similarity[e, k])) for e, k in match(similarity, self.limits.match)]

    def _begin(self, found: Predictions, row: int, probs: Tensor, sharpness: float, window: Window) -> None:
        """A new entity: its first tokens are those of the first frame of the clip that shows it."""
        masks = found.masks[row]
        place = int((masks > 0).flatten(1).any(1).int().argmax())
        mask = coarse_to_frame(masks[place] > 0, window.scene.size)
        pool = Pool(window.frames, window.sample(window.frames[place], mask, self.settings.points))
        pool.add({}, dict(zip(window.frames, found.embeddings[row], strict=True)))
        self.entities.append(Entity(self._number(), pool, probs, torch.zeros_like(probs)))
        self.entities[-1].add(window, masks, sharpness)
