"""UniVS as a LightningModule."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from common import optim
from common.data.clip import Clip
from common.segmenter import VideoSegmenter
from common.settings import changed, restore
from methods.univs.network.model import UniVSNetwork, frozen_parts
from methods.univs.session import UniVSSession
from methods.univs.settings import (
    Backbone,
    InferenceSettings,
    SelfAttention,
    Temporal,
    TrainingSettings,
    UniVSSettings,
    preset,
)
from methods.univs.training.step import batch_losses
from methods.univs.weights.loading import PUBLISHED, published_state
from methods.univs.weights.text_weights import load_text

WEIGHTS = {"class": 5.0, "mask": 5.0, "dice": 5.0, "semantic": 5.0}
REID = ("reid", "reid_aux", "reid_prompt", "reid_prompt_aux", "reid_clips", "reid_clips_aux")
_NAMES = {"resnet50": "ResNet50", "swin-tiny": "Swin-T", "swin-base": "Swin-B", "swin-large": "Swin-L"}
_EMBEDDING = r"\.(level|level_embed|query|query_code|relative_position_bias_table)$|\.task\.|_embedding\.weight$"


class UniVS(VideoSegmenter):
    """UniVS (CVPR 2024): masks, boxes, points, expressions and category names as queries; six tasks in one network.

    Args:
        backbone: ``resnet50``, ``swin-tiny``, ``swin-base``, ``swin-large`` as published, or our ``nano``.
        queries: learnable queries; default 200 (nano 32).
        points: tokens of a visual prompt; default 32.
        self_attention: who reads whom among the queries, see ``UniVSSettings``; default ``sep``.
        temporal: position code of time, see ``UniVSSettings``; default ``arbitrary``.
        proca: prompt cross-attention (Table 3a).
        tokenizer: folder of CLIP's vocabulary, where the text tower needs one.
        text: file of the text tower's weights, where ``weights`` do not hold them.
        recipe: how a clip is trained on.
        inference: how a video is run; by default as released, and nano at the video's own size.
        reid: weight w of all ReID terms; ``loss_weights`` overrides single ones.
        frozen_stages: stages of the backbone that are not trained; 4 = none is.
        freeze_pixel_decoder: the pixel decoder is not trained.
        backbone_lr: factor on the learning rate of the backbone.
        kwargs: see ``VideoSegmenter``; ``weights`` may be a published UniVS checkpoint, or Mask2Former's to start a
            training from.

    Raises:
        InputError: settings that do not fit each other, or files that do not fit.
    """

    published_weights = PUBLISHED
    start_files: ClassVar[dict[str, str | None]] = {"text": None}
    network: UniVSNetwork

    def __init__(
        self,
        backbone: Backbone = "nano",
        queries: int | None = None,
        points: int | None = None,
        self_attention: SelfAttention | None = None,
        temporal: Temporal | None = None,
        proca: bool | None = None,
        tokenizer: str | None = None,
        text: str | None = None,
        recipe: TrainingSettings | None = None,
        inference: InferenceSettings | None = None,
        reid: float = 0.5,
        frozen_stages: int = 0,
        freeze_pixel_decoder: bool = False,
        backbone_lr: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        sizes = dict(queries=queries, points=points, self_attention=self_attention, temporal=temporal, proca=proca)
        self.network = UniVSNetwork(preset(backbone, **sizes), tokenizer)
        if inference is None and backbone == "nano":
            inference = InferenceSettings(short_side=None)
        self.inference = restore(InferenceSettings, inference) or InferenceSettings()
        self.recipe = restore(TrainingSettings, recipe) or TrainingSettings()
        self.loss_weights = WEIGHTS | dict.fromkeys(REID, reid) | self.loss_weights
        self.backbone_lr = backbone_lr
        self._still = frozen_parts(self.network, frozen_stages, freeze_pixel_decoder)
        self.method_name, self.variant = "UniVS", _variant(self.network.settings, self.recipe, self.inference)
        self.load_weights()
        if text is not None:
            load_text(self.network.text, text)

    def architecture(self) -> dict[str, Any]:
        """Return the settings of the network."""
        return asdict(self.network.settings)

    def from_published(self, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
        """Return weights of UniVS or Mask2Former under the network's names, completed by its own."""
        state, partial = published_state(self.network, state)
        self.weights_note = "partial" if partial else self.weights_note
        return state

    def session(self, length: int | None = None) -> UniVSSession:
        """A session with this module's test settings, whatever the length."""
        return UniVSSession(self.network, self.inference)

    def losses(self, clip: Clip) -> dict[str, Tensor]:
        """Terms of classes, masks and embeddings, of learnable and prompt queries; see ``batch_losses``."""
        return batch_losses(self.network, clip, self.recipe)

    def train(self, mode: bool = True) -> UniVS:
        """Training mode; what is frozen stays in eval mode."""
        super().train(mode)
        for part in self._still if mode else ():
            part.eval()
        return self

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return groups with a lower rate for the backbone; no decay of biases, norms, embeddings and positions."""
        return optim.parameter_groups(
            self,
            self.lr,
            self.weight_decay,
            lambda name: self.backbone_lr if ".backbone." in name else 1.0,
            undecayed=_EMBEDDING,
        )


def _variant(settings: UniVSSettings, recipe: TrainingSettings, inference: InferenceSettings) -> str:
    """Return the name of a table's row: the backbone, and the settings that are not the paper's."""
    parts = [part.lower() for part in changed(settings, preset(settings.backbone))]
    parts += [] if recipe.prompts else ["prompts=false"]
    parts += [] if inference.tracking == "prompts" else [f"tracking={inference.tracking}"]
    if recipe.clip and settings.backbone == "nano":  # the published networks are of stage 3, nano is of stage 2
        parts.append("stage=3")
    return ", ".join([_NAMES.get(settings.backbone, settings.backbone), *parts])
