"""Settings of UniVS: sizes of the network, the training recipe, lengths and thresholds of inference."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from common.errors import InputError

Backbone = Literal["nano", "resnet50", "swin-tiny", "swin-base", "swin-large"]
SelfAttention = Literal["sep", "sep-blocked", "sep-l2p", "all"]
Temporal = Literal["arbitrary", "fixed"]
Tracking = Literal["prompts", "similarity"]


@dataclass(frozen=True)
class TextSettings:
    """The CLIP text encoder; the defaults are RN50x4's, whose weights the paper takes from RegionCLIP.

    Attributes:
        width: channels of the transformer; its MLP is four times as wide.
        layers: transformer layers.
        heads: attention heads.
        outputs: channels of the text embeddings, D.
        context: longest text in tokens, including the start and end tokens.
        vocabulary: entries of the token table.
        hashed: number words by their hash, which needs no vocabulary file; otherwise use CLIP's BPE.
        templates: sentences that a text is embedded in and averaged over: CLIP's 81 (``clip``), or the text alone
            (``plain``).
        frozen: never train the encoder and keep it in eval mode. Only pretrained weights can be frozen.
    """

    width: int = 640
    layers: int = 12
    heads: int = 10
    outputs: int = 640
    context: int = 77
    vocabulary: int = 49408
    hashed: bool = False
    templates: Literal["clip", "plain"] = "clip"
    frozen: bool = True


@dataclass(frozen=True)
class UniVSSettings:
    """Sizes of the network; the defaults are the paper's, and the released code's where the paper leaves a choice.

    Attributes:
        backbone: image backbone.
        hidden: channels C of queries, feature maps and mask features.
        heads: attention heads.
        queries: number of learnable queries.
        layers: decoder layers.
        feedforward: hidden width of the decoder's MLPs.
        encoder_layers: layers of the pixel decoder.
        encoder_feedforward: hidden width of the pixel decoder's MLPs.
        points: tokens of a visual prompt, R.
        temporal: temporal position code of a frame: ``arbitrary`` = its index in the video over 128, ``fixed`` = its
            index in the clip over T.
        self_attention: which queries attend to which in the decoder: ``sep`` = learnable and prompt queries apart
            (equation 4), ``sep-blocked`` = in addition the prompt queries of each target by themselves, ``sep-l2p`` =
            prompt queries also attend to learnable ones, ``all`` = no separation. As released, expression prompts
            use ``sep-blocked`` under ``sep``.
        proca: prompt cross-attention (ProCA, equation 3); without it a prompt query keeps its initial position code.
        text: settings of the text encoder.
    """

    backbone: Backbone = "resnet50"
    hidden: int = 256
    heads: int = 8
    queries: int = 200
    layers: int = 9
    feedforward: int = 2048
    encoder_layers: int = 6
    encoder_feedforward: int = 1024
    points: int = 32
    temporal: Temporal = "arbitrary"
    self_attention: SelfAttention = "sep"
    proca: bool = True
    text: TextSettings = field(default_factory=TextSettings)

    def __post_init__(self) -> None:
        if self.hidden % 32 or self.hidden % self.heads:
            raise InputError(f"hidden is {self.hidden}; it must be divisible by 32 and by the {self.heads} heads")
        if min(self.queries, self.layers, self.encoder_layers, self.points) < 1:
            raise InputError("queries, layers, encoder_layers and points must be at least 1")


NANO = UniVSSettings(
    backbone="nano",
    hidden=96,
    heads=6,
    queries=32,
    layers=3,
    feedforward=384,
    encoder_layers=2,
    encoder_feedforward=192,
    text=TextSettings(64, 2, 4, 64, 32, 2048, hashed=True, templates="plain", frozen=False),
)


def preset(backbone: Backbone = "nano", **changes: Any) -> UniVSSettings:
    """Return the settings of a backbone: this project's ``nano``, or the paper's for all others.

    Args:
        backbone: image backbone.
        changes: values that replace the preset's, by name; None keeps the preset's value.
    """
    base = NANO if backbone == "nano" else UniVSSettings(backbone)
    return replace(base, **{name: value for name, value in changes.items() if value is not None})


@dataclass(frozen=True)
class TrainingSettings:
    """The training recipe; the defaults are those of stage 2.

    Attributes:
        clip: frames of a clip; longer videos are cut into clips. 0 = the whole video is one clip.
        overlap: frames that two successive clips share; the last clip is moved back to fit into the video.
        max_prompts: most prompts of a video.
        visual_prompt_prob: probability of visual prompts on data with categories; otherwise the category names are
            the prompts. The released code draws a standard normal number and tests whether it exceeds 0.5.
        visual_kind_probs: probabilities of point, box and mask prompts among visual prompts.
        max_vocabulary: data sets with more categories (LVIS, EntitySeg) always use visual prompts.
        content_position_prob: probability that the content of a visual prompt query is also its position code.
        prompts: train prompt queries; False trains learnable queries alone (Table 3a, first row).
        num_points: points of the mask losses, R.
        oversample_ratio: candidates drawn for each point.
        importance_sample_ratio: share of the points that are the most uncertain candidates; the others are uniform.
    """

    clip: int = 0
    overlap: int = 1
    max_prompts: int = 20
    visual_prompt_prob: float = 0.3085
    visual_kind_probs: tuple[float, float, float] = (0.25, 0.25, 0.5)
    max_vocabulary: int = 200
    content_position_prob: float = 0.5
    prompts: bool = True
    num_points: int = 12544
    oversample_ratio: float = 3.0
    importance_sample_ratio: float = 0.5

    def __post_init__(self) -> None:
        if self.clip and not 0 <= self.overlap < self.clip:
            raise InputError(f"recipe: overlap {self.overlap} must be at least 0 and less than clip {self.clip}")
        if min(self.max_prompts, self.num_points) < 1:
            raise InputError(
                f"recipe: max_prompts is {self.max_prompts} and num_points {self.num_points}; both must be at least 1"
            )
        if min(self.visual_kind_probs) < 0 or sum(self.visual_kind_probs) <= 0:
            raise InputError(f"recipe: visual_kind_probs {self.visual_kind_probs} must be shares of at least 0")

    def windows(self, length: int) -> list[tuple[int, int]]:
        """Return the first frame of each clip and the one past its last, for a video of ``length`` frames.

        Raises:
            InputError: the video is shorter than a clip: no clip could follow the first.
        """
        if self.clip > length:
            raise InputError(
                f"recipe: clips of {self.clip} frames, but the batch has videos of {length}; give --data.frames "
                f"{self.clip + 1} or more, or --model.recipe.clip 0"
            )
        size = self.clip or length
        starts = range(0, max(1, length - self.overlap), size - self.overlap if size > self.overlap else 1)
        return [(min(start, length - size), min(start, length - size) + size) for start in starts]


@dataclass(frozen=True)
class EntitySettings:
    """Thresholds of targets that are detected by category; the defaults are those of VIS (YouTube-VIS).

    Scores, IoUs, shares and qualities lie in 0 to 1. A score is a class probability times the mask quality.

    Attributes:
        min_first_score: score that a new entity must exceed in a clip without known entities.
        min_new_score: score that a new entity must exceed in every other clip.
        max_box_iou: box IoU (largest over the clip) with a better candidate above which a thing is suppressed.
        max_stuff_iou: mask IoU on the clip's first frame above which a stuff candidate is suppressed.
        min_match: bi-softmax similarity above which a candidate is matched with a known entity.
        min_merge: bi-softmax similarity above which the masks of a matched candidate are added to the entity.
        min_similarity: consistency with the memory that masks of a prompt query must exceed; half of it in the first
            T clips.
        max_new_iou: mask IoU with a known entity, on any frame, from which on a candidate is no new entity.
        min_area_share: share of its area that an entity must keep in the competition for pixels; in VPS half of it
            for things that were part of an earlier prediction.
        min_quality: mask quality that a candidate must exceed.
        max_things: thing candidates that are considered, the best first.
        max_stuff: stuff candidates that are considered, the best first.
    """

    min_first_score: float = 0.25
    min_new_score: float = 0.25
    max_box_iou: float = 0.85
    max_stuff_iou: float = 0.6
    min_match: float = 0.1
    min_merge: float = 0.2
    min_similarity: float = 0.25
    max_new_iou: float = 0.5
    min_area_share: float = 0.5
    min_quality: float = 0.25
    max_things: int = 50
    max_stuff: int = 30


@dataclass(frozen=True)
class PanopticSettings(EntitySettings):
    """Thresholds of VPS (VIPSeg)."""

    min_first_score: float = 0.15
    min_new_score: float = 0.3
    max_box_iou: float = 0.75
    min_match: float = 0.05
    min_merge: float = 0.05
    min_similarity: float = 0.05
    min_area_share: float = 0.6
    min_quality: float = 0.0
    max_things: int = 70


@dataclass(frozen=True)
class InferenceSettings:
    """Lengths and thresholds of inference; the defaults are those of the released test scripts.

    Attributes:
        clip: frames that are decoded together, T. Predictions come T - 1 frames late.
        memory: frames whose tokens and embeddings are stored for a target, besides its first appearance, M.
        points: tokens sampled of a target on each frame, R.
        short_side: length in pixels that a frame's short side is resized to; None = the video's own size.
        long_side: largest length in pixels of a resized frame's long side.
        tracking: ``prompts`` = the accumulated masks of a target are its prompt in the next clip; ``similarity`` =
            targets are recognised among the learnable queries by their embeddings (Table 3b).
        min_similarity: consistency with the memory that masks of a prompted target must exceed.
        min_query_similarity: the same for learnable queries, with ``similarity`` tracking.
        min_area_share: share of its area that a prompted target must keep in the competition for pixels.
        min_first_iou: IoU with the prompt mask that the first prediction must exceed.
        small_area: prompt masks with fewer pixels lower ``min_first_iou`` in proportion.
        detection_interval: clips from one detection by category to the next.
        max_entities: most entities in memory; the ones not seen for longest are dropped first. Not in the paper.
        instances: thresholds of VIS.
        panoptic: thresholds of VPS.
    """

    clip: int = 5
    memory: int = 5
    points: int = 128
    short_side: int | None = 640
    long_side: int = 1333
    tracking: Tracking = "prompts"
    min_similarity: float = 0.5
    min_query_similarity: float = 0.65
    min_area_share: float = 0.25
    min_first_iou: float = 0.15
    small_area: int = 96**2
    detection_interval: int = 1
    max_entities: int = 100
    instances: EntitySettings = field(default_factory=EntitySettings)
    panoptic: PanopticSettings = field(default_factory=PanopticSettings)

    def __post_init__(self) -> None:
        for name in ("clip", "memory", "points", "detection_interval", "max_entities"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.short_side is not None and not 1 <= self.short_side <= self.long_side:
            raise InputError(f"short_side is {self.short_side}; it must be from 1 to long_side, {self.long_side}")
        if self.tracking not in ("prompts", "similarity"):
            raise InputError(f"tracking is {self.tracking!r}; it must be prompts or similarity")
