"""UniVS as a LightningModule."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from common import optim
from common.data.clip import Clip
from common.segmenter import VideoSegmenter
from methods.univs.network.model import UniVSNetwork, frozen_parts
from methods.univs.session import UniVSSession
from methods.univs.settings import (
    Backbone,
    InferenceSettings,
    SelfAttention,
    Temporal,
    TrainingSettings,
    UniVSSettings,
    inference_settings,
    preset,
)
from methods.univs.training.step import batch_losses
from methods.univs.weights.loading import load_weights
from methods.univs.weights.text_weights import load_text

NANO = Path(__file__).resolve().parents[2] / "weights" / "univs_nano.safetensors"
WEIGHTS = {"class": 5.0, "mask": 5.0, "dice": 5.0, "semantic": 5.0}
REID = ("reid", "reid_aux", "reid_prompt", "reid_prompt_aux", "reid_clips", "reid_clips_aux")
_SIZES = ("queries", "points", "self_attention", "temporal", "proca")
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
        milestones: steps at which the learning rate falls to a tenth; null = warm-up and cosine.
        kwargs: see ``VideoSegmenter``; ``weights`` may be ``nano``, a published UniVS or Mask2Former checkpoint, or
            one of ours.

    Raises:
        InputError: settings that do not fit each other, or files that do not fit.
    """

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
        milestones: list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        sizes = dict(queries=queries, points=points, self_attention=self_attention, temporal=temporal, proca=proca)
        self.core = UniVSNetwork(preset(backbone, **sizes), tokenizer)
        if inference is None and backbone == "nano":
            inference = InferenceSettings(short_side=None)
        self.inference = inference_settings(inference)
        # a checkpoint holds settings as plain data
        self.recipe = TrainingSettings(**recipe) if isinstance(recipe, dict) else recipe or TrainingSettings()
        self.loss_weights = WEIGHTS | dict.fromkeys(REID, reid) | self.loss_weights
        self.backbone_lr, self.milestones = backbone_lr, milestones
        self._still = frozen_parts(self.core, frozen_stages, freeze_pixel_decoder)
        self.method_name, self.variant = "UniVS", _variant(self.core.settings, self.recipe, self.inference)
        if self.weights not in (None, "random"):
            self.weights_file = load_weights(self.core, NANO if self.weights == "nano" else self.weights)
            self.weights_note = "ours nano" if self.weights == "nano" else self.weights_file.name
        if text is not None:
            load_text(self.core.text, text)

    def session(self, length: int | None = None) -> UniVSSession:
        """A session with this module's test settings, whatever the length."""
        return UniVSSession(self.core, self.inference)

    def losses(self, clip: Clip) -> dict[str, Tensor]:
        """Terms of classes, masks and embeddings, of learnable and prompt queries; see ``batch_losses``."""
        return batch_losses(self.core, clip, self.recipe)

    def train(self, mode: bool = True) -> UniVS:
        """Training mode; what is frozen stays in eval mode."""
        super().train(mode)
        for part in self._still if mode else ():
            part.eval()
        return self

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The text tower's file is not asked for again: the checkpoint holds all weights."""
        super().on_save_checkpoint(checkpoint)
        stored = checkpoint.get("hyper_parameters", {})
        if stored.get("text") is not None:
            stored["text"] = None

    def parameter_groups(self) -> list[dict[str, Any]]:
        """A lower rate for the backbone; no decay of biases, norms, embeddings and relative positions."""
        groups = optim.parameter_groups(
            self, self.lr, self.weight_decay, lambda name: self.backbone_lr if ".backbone." in name else 1.0
        )
        kept = {id(p) for name, p in self.named_parameters() if re.search(_EMBEDDING, name) and p.requires_grad}
        split = []
        for group in groups:
            for mine, decay in ((True, 0.0), (False, group["weight_decay"])):
                chosen = [p for p in group["params"] if (id(p) in kept) == mine]
                split += [group | {"params": chosen, "weight_decay": decay}] if chosen else []
        return split

    def configure_optimizers(self) -> Any:
        """AdamW; with ``milestones`` in steps after the warm-up, as published, else with warm-up and cosine."""
        if not self.milestones:
            return super().configure_optimizers()
        optimizer = AdamW(self.parameter_groups(), lr=self.lr)

        def factor(step: int) -> float:
            warm = min(1.0, (step + 1) / (self.warmup_steps + 1))
            return warm * 0.1 ** sum(step >= milestone for milestone in self.milestones or ())

        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}


def _variant(settings: UniVSSettings, recipe: TrainingSettings, inference: InferenceSettings) -> str:
    """Name of a table's row: the backbone, and the settings that are not the paper's."""
    default = preset(settings.backbone)
    changed: dict[str, Any] = {name: getattr(settings, name) for name in _SIZES}
    changed = {name: value for name, value in changed.items() if value != getattr(default, name)}
    if not recipe.prompts:
        changed["prompts"] = False
    if inference.tracking != "prompts":
        changed["tracking"] = inference.tracking
    if recipe.clip and settings.backbone == "nano":  # the published networks are of stage 3, nano is of stage 2
        changed["stage"] = 3
    parts = [f"{name}={str(value).lower()}" for name, value in changed.items()]
    return ", ".join([_NAMES.get(settings.backbone, settings.backbone), *parts])
