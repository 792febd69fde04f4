"""How a video is run: lengths and thresholds of inference; the defaults are those of the released test scripts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from common.errors import InputError

Tracking = Literal["prompts", "similarity"]


@dataclass(frozen=True)
class EntitySettings:
    """Thresholds of what is found by category; the defaults are those of VIS (YouTube-VIS).

    Probabilities, IoUs and shares lie in 0 to 1.

    Attributes:
        first, later: class probability times mask quality for a new entity where none is known yet, and after that.
        overlap: box IoU, the largest over the clip, with a better candidate that drops a candidate.
        stuff_overlap: the same for stuff, mask IoU on the clip's first frame.
        match: bi-softmax that makes a candidate a known entity.
        merge: bi-softmax above which its masks count too.
        similarity: consistency below which what a prompt found is discarded; half of it in the first T clips.
        new_overlap: mask IoU with a known entity, on any frame, that forbids a new one.
        kept: share of its area that an entity must keep in the competition for pixels; of VPS half of it once shown.
        stability: mask quality that a candidate must have.
        things, stuff: best candidates that are looked at.
    """

    first: float = 0.25
    later: float = 0.25
    overlap: float = 0.85
    stuff_overlap: float = 0.6
    match: float = 0.1
    merge: float = 0.2
    similarity: float = 0.25
    new_overlap: float = 0.5
    kept: float = 0.5
    stability: float = 0.25
    things: int = 50
    stuff: int = 30


@dataclass(frozen=True)
class PanopticSettings(EntitySettings):
    """Those of VPS (VIPSeg)."""

    first: float = 0.15
    later: float = 0.3
    overlap: float = 0.75
    match: float = 0.05
    merge: float = 0.05
    similarity: float = 0.05
    kept: float = 0.6
    stability: float = 0.0
    things: int = 70


@dataclass(frozen=True)
class InferenceSettings:
    """How a video is run.

    Attributes:
        clip: frames looked at together, T. An answer comes T - 1 frames late.
        memory: frames whose tokens and embeddings are kept of a target besides those of its first appearance, M.
        points: tokens sampled of a target and frame, R.
        short_side, long_side: of a frame in pixels: the short side is brought to its number unless the long one would
            exceed its own. None = the video's own size.
        tracking: ``prompts`` = a target's accumulated masks are its prompt in the next clip; ``similarity`` =
            learnable queries are recognised by their embeddings (Table 3b).
        similarity: cosine with its memory that a given target's masks must exceed, else they are discarded.
        recognise: cosine with a learnable query that makes it a given target's, for ``similarity`` tracking.
        kept: share of its area that a given target must keep in the competition for pixels.
        first_iou: IoU with the given mask that the first prediction must exceed ...
        first_area: ... in proportion for masks that have fewer pixels than this.
        interval: clips from one detection to the next.
        entities: known at most; beyond it those that were not seen for longest are forgotten. Ours.
        instances, panoptic: thresholds of VIS, and of VPS.
    """

    clip: int = 5
    memory: int = 5
    points: int = 128
    short_side: int | None = 640
    long_side: int = 1333
    tracking: Tracking = "prompts"
    similarity: float = 0.5
    recognise: float = 0.65
    kept: float = 0.25
    first_iou: float = 0.15
    first_area: int = 96**2
    interval: int = 1
    entities: int = 100
    instances: EntitySettings = field(default_factory=EntitySettings)
    panoptic: PanopticSettings = field(default_factory=PanopticSettings)

    def __post_init__(self) -> None:
        for name in ("clip", "memory", "points", "interval", "entities"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.short_side is not None and not 1 <= self.short_side <= self.long_side:
            raise InputError(f"short_side is {self.short_side}; it must be from 1 to long_side, {self.long_side}")
        if self.tracking not in ("prompts", "similarity"):
            raise InputError(f"tracking is {self.tracking!r}; it must be prompts or similarity")
