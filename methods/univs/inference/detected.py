"""Targets detected by category (VIS, VPS): detection, association with known entities, and tracking by prompts.

Legend: Q learnable queries, N candidates, E entities, K categories, T frames of the clip, P past frames, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from common.video import FrameMasks
from methods.univs.inference.acceptance import accept_tracked
from methods.univs.inference.entity import Entity
from methods.univs.inference.mask_ops import mask_iou, mask_quality, max_box_iou, max_frame_iou, upsample_masks
from methods.univs.inference.memory_pool import MemoryPool
from methods.univs.inference.panoptic import PanopticSegments, predict_instances
from methods.univs.inference.window import Window, first_clip, pool_prompts
from methods.univs.network.decoder import Predictions
from methods.univs.network.model import UniVSNetwork
from methods.univs.settings import EntitySettings, InferenceSettings

_RECENT = 3  # newest embeddings of an entity that candidates are compared with, and whose mean a new slot gets


class DetectedTargets:
    """Task of targets that are detected by category, see ``Task``; panoptic if some categories are stuff.

    Args:
        network: in eval mode.
        settings: lengths and thresholds.
        vocabulary: K category names.
        stuff: those of the names that cannot be counted; none for VIS, some for VPS.
    """

    stride = 1
    idle = False

    def __init__(
        self, network: UniVSNetwork, settings: InferenceSettings, vocabulary: Sequence[str], stuff: Sequence[str]
    ) -> None:
        self.network, self.settings = network, settings
        self.limits = settings.panoptic if stuff else settings.instances
        self.concepts = network.concepts(vocabulary)
        self.stuff = torch.tensor([name in stuff for name in vocabulary], device=self.concepts.device)
        self.entities: list[Entity] = []
        self._segments = PanopticSegments(self.stuff, self.limits.min_area_share, self._next_id) if stuff else None
        self._ids = 0  # ids assigned so far
        self._max_quality = 0.0  # largest summed quality of an entity so far
        self._start: int | None = None  # first frame of the first clip

    def observe(self, window: Window) -> None:
        """Process the next clip."""
        settings, entities = self.settings, list(self.entities)
        self._start = window.frames[0] if self._start is None else self._start
        clip = window.frames[0] - self._start  # index of the clip, as clips slide by one frame
        for entity in entities:
            entity.extend(window.frames[-1], _RECENT)
        prompts = None
        if entities and settings.tracking == "prompts":
            prompts = pool_prompts(self.network, [e.pool for e in entities], window.frames, settings.memory)
        # one pass serves both: with SepSA learnable queries do not attend to prompt queries
        output = self.network.decode(window.scene, prompts, all_layers=False)[-1]
        if prompts is not None:
            self._track(entities, first_clip(output.prompt), window, clip)
        if clip % settings.detection_interval == 0 or not entities or settings.tracking == "similarity":
            self._detect(entities, first_clip(output.learnable), window)
        # bounds the memory: the entities seen last are kept
        self.entities.sort(key=lambda entity: entity.last_seen, reverse=True)
        del self.entities[settings.max_entities :]
        for entity in self.entities:
            window.resample(entity.pool, settings.points)
            entity.pool.trim(max(settings.memory, _RECENT), window.frames[0])

    def predict(self, frame: int, window: Window) -> FrameMasks:
        """Return the instances or panoptic segments of a frame.

        Args:
            frame: index of the frame in the video.
            window: the last clip.
        """
        if self._segments is None:
            self._max_quality = max([self._max_quality, *(entity.quality for entity in self.entities)])
            return predict_instances(frame, window, self.entities, len(self.concepts), self._max_quality)
        return self._segments.predict(frame, window, self.entities)

    def _next_id(self) -> int:
        self._ids += 1
        return self._ids

    def _track(self, entities: list[Entity], predictions: Predictions, window: Window, clip: int) -> None:
        """Add the masks of the entities' prompt queries that are accepted; instances compete for pixels."""
        limits, qualities = self.limits, mask_quality(predictions.masks).tolist()
        past = [entity.pool.embeddings(max(self.settings.memory, _RECENT)) for entity in entities]
        # as released, the threshold is lower as long as the memory holds few embeddings
        early = clip < self.settings.clip
        min_similarity = limits.min_similarity / 2 if early else limits.min_similarity
        min_area_share = limits.min_area_share if self._segments is None else None
        class_scores = torch.stack([entity.scores.max() for entity in entities])
        results = accept_tracked(predictions, past, min_similarity, min_area_share, class_scores)
        for row, entity in enumerate(entities):
            if results.accepted[row]:
                entity.add_masks(window, results.masks[row], qualities[row])
                entity.add_embeddings(window, results.embeddings[row])

    def _detect(self, entities: list[Entity], predictions: Predictions, window: Window) -> None:
        """Match candidates among the learnable queries with known entities, and start new ones.

        As released, panoptic candidates are all queries once there are entities. A candidate that matches an entity
        below ``min_merge`` updates its class scores and embedding, and may still become a new entity.
        """
        limits, qualities = self.limits, mask_quality(predictions.masks)
        probs = self.network.class_logits(predictions.classes, self.concepts).sigmoid() * qualities[:, None]
        rows = torch.arange(len(probs), device=probs.device)
        if not entities or self._segments is None:
            rows = select_candidates(probs, predictions.masks > 0, qualities, self.stuff, limits)
        merged = set()  # candidates whose masks were added to an entity
        for entity, candidate, similarity in self._match(entities, predictions.embeddings[rows]):
            row = rows[candidate]
            entity.classes = (entity.classes + probs[row]) / 2
            entity.add_embeddings(window, predictions.embeddings[row])
            if similarity > limits.min_merge or self.settings.tracking == "similarity":
                entity.add_masks(window, predictions.masks[row], float(qualities[row]))
                merged.add(candidate)
        # entities that are new in this clip are not compared with each other
        entity_masks = torch.stack([entity.masks(window) for entity in entities]) if entities else None
        min_score = limits.min_new_score if entities else limits.min_first_score
        for candidate, row in enumerate(rows.tolist()):
            if candidate in merged or probs[row].max() <= min_score:
                continue
            masks = predictions.masks[row] > 0
            if entity_masks is None or max_frame_iou(masks, entity_masks).max() < limits.max_new_iou:
                self._add_entity(predictions, row, probs[row], float(qualities[row]), window)

    def _match(self, entities: list[Entity], embeddings: Tensor) -> list[tuple[Entity, int, float]]:
        """Entities with the index of the candidate (N, T, C) that each is matched with, and their similarity."""
        if not entities or not len(embeddings):
            return []
        past = [entity.pool.embeddings(_RECENT) for entity in entities]
        # entities with fewer embeddings repeat their oldest one
        past = [torch.cat([rows[:1].expand(_RECENT - len(rows), -1), rows]) for rows in past]
        similarity = bi_softmax(torch.stack(past), embeddings)
        pairs = match_entities(similarity, self.limits.min_match)
        return [(entities[e], n, float(similarity[e, n])) for e, n in pairs]

    def _add_entity(self, predictions: Predictions, row: int, probs: Tensor, quality: float, window: Window) -> None:
        """Start a new entity, with tokens of the first frame of the clip that shows it in all slots."""
        masks = predictions.masks[row]
        place = int((masks > 0).flatten(1).any(1).int().argmax())
        mask = upsample_masks(masks[place] > 0, window.scene.size)
        pool = MemoryPool(window.frames, window.sample(window.frames[place], mask, self.settings.points))
        pool.update({}, dict(zip(window.frames, predictions.embeddings[row], strict=True)))
        self.entities.append(Entity(self._next_id(), pool, probs, torch.zeros_like(probs)))
        self.entities[-1].add_masks(window, masks, quality)


def select_candidates(probs: Tensor, masks: Tensor, quality: Tensor, stuff: Tensor, settings: EntitySettings) -> Tensor:
    """Return the learnable queries that may be entities, int64 (N,): things, then stuff, each the best first.

    Args:
        probs: class probabilities times quality (Q, K).
        masks: bool (Q, T, h, w).
        quality: mask quality (Q,).
        stuff: bool (K,), True for categories that cannot be counted.
        settings: thresholds.
    """
    score, category = probs.max(1)
    is_stuff = stuff[category]
    stable = (quality > settings.min_quality) & masks.flatten(1).any(1)
    selected = []
    for kind, most in ((~is_stuff, settings.max_things), (is_stuff, settings.max_stuff)):
        rows = score.masked_fill(~(kind & stable), -1).argsort(descending=True, stable=True)
        rows = rows[: int((kind & stable).sum())][:most]
        # things are compared by their boxes, stuff by its masks
        if kind is is_stuff:
            remaining = suppress_overlaps(mask_iou(masks[rows, 0], masks[rows, 0]), settings.max_stuff_iou)
        else:
            remaining = suppress_overlaps(max_box_iou(masks[rows]), settings.max_box_iou) if len(rows) else rows > 0
        selected.append(rows[remaining])
    return torch.cat(selected)


def suppress_overlaps(overlaps: Tensor, max_iou: float) -> Tensor:
    """Return which candidates overlap no better one, bool (N,): non-maximum suppression in one step, as released.

    Unlike the greedy form, a candidate that is suppressed itself suppresses others too.

    Args:
        overlaps: IoU (N, N), the best candidate first.
        max_iou: IoU above which the worse of two candidates is suppressed.
    """
    return ~(overlaps.triu(1) > max_iou).any(0)


def bi_softmax(past: Tensor, current: Tensor) -> Tensor:
    """Return the similarity of entities and candidates, (E, N), at most 1.

    For each pair of a past frame and a frame of the clip: dot products, softmax over the candidates and over the
    entities, and the mean of the two. Then the mean over the pairs.

    Args:
        past: embeddings of entities (E, P, C).
        current: embeddings of candidates (N, T, C).
    """
    dots = torch.einsum("epc,ktc->ptek", past, current)
    return ((dots.softmax(-1) + dots.softmax(-2)) / 2).mean((0, 1))


def match_entities(similarity: Tensor, min_similarity: float) -> list[tuple[int, int]]:
    """Return pairs of entity and candidate: the assignment of largest similarity (Hungarian algorithm).

    Args:
        similarity: (E, N).
        min_similarity: similarity that a pair must exceed.
    """
    # pairs below the threshold count nothing, so that they cannot push out a likely pair
    likely = similarity.masked_fill(similarity <= min_similarity, 0.0)
    rows, columns = linear_sum_assignment(likely.cpu().numpy(), maximize=True)
    return [(int(e), int(n)) for e, n in zip(rows, columns, strict=True) if likely[e, n] > 0]
