"""SSLVOS and its ablations, Cutie among them, as one LightningModule."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim.lr_scheduler import MultiStepLR

from common import optim
from common.data.clip import Clip
from common.errors import InputError
from common.nn.resnet import load_imagenet
from common.segmenter import VideoSegmenter
from methods.sslvos.build import EncoderKind, Parts, Size, build_core, load_backbone, restored
from methods.sslvos.encoders.vit import VitSize
from methods.sslvos.session import SessionSettings, SSLVOSSession
from methods.sslvos.settings import AdapterSettings, DiscriminativeSettings
from methods.sslvos.training import TrainingSettings, clip_losses
from methods.sslvos.weights import load_weights

AUXILIARY = 0.01  # weight of the losses of the auxiliary heads


class SSLVOS(VideoSegmenter):
    """SSLVOS (ICLR 2025): spatial-semantic features of a frozen ViT, and discriminative queries, on Cutie's core.

    Args:
        size: ``sslvos`` (ViT-B, 8 queries, 5 blocks), ``cutie-base``, ``cutie-small`` (16 queries, 3 blocks), ``nano``.
        encoder: ``resnet``, or of a ViT: ``full``, ``spatial`` (without equation 1), ``pyramid`` (``+ViT`` of Table 1),
            ``vit-adapter``, ``vit-comer`` (Table 2); default for the size.
        vit: ``small``, ``base``, ``large`` (DINOv2's and Depth Anything's), ``mae-base``, or our ``nano``.
        freeze_vit: the ViT is not trained; false in the rows of ``pyramid``, ``vit-adapter`` and ``vit-comer``.
        adapter: readings of equations 1 to 3, where paper and release differ.
        discriminative: discriminative queries (equations 4 to 6) in place of masked attention; default for the size.
        equation_variant: of equations 4 to 6, where paper and release differ.
        queries: object queries of a target; default for the size.
        blocks: of the object transformer; default for the size.
        inference: memory, short sides and mirror averaging at test time.
        recipe: reference frames and points of a training clip.
        backbone: weights that the image encoder starts from: a torchvision ResNet file; a ViT's file or transformers
            folder; or ``random``, without which a frozen ViT is not trained upon.
        mask_backbone: a torchvision ResNet-18 file for the mask encoder.
        encoder_lr: factor on the learning rate of the image encoder.
        milestones: steps at which the learning rate falls to a tenth; null = warm-up and cosine.
        kwargs: see ``VideoSegmenter``; ``weights`` may be a published Cutie checkpoint or one of ours.

    Raises:
        InputError: settings that do not fit each other, or files that do not fit.
    """

    def __init__(
        self,
        size: Size = "nano",
        encoder: EncoderKind | None = None,
        vit: VitSize | None = None,
        freeze_vit: bool = True,
        adapter: AdapterSettings | None = None,
        discriminative: bool | None = None,
        equation_variant: DiscriminativeSettings | None = None,
        queries: int | None = None,
        blocks: int | None = None,
        inference: SessionSettings | None = None,
        recipe: TrainingSettings | None = None,
        backbone: str | None = None,
        mask_backbone: str | None = None,
        encoder_lr: float = 0.1,
        milestones: list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.loss_weights = {"sensory": AUXILIARY, "queries": AUXILIARY} | self.loss_weights
        # a checkpoint holds settings as plain data
        queried, adapted = restored(DiscriminativeSettings, equation_variant), restored(AdapterSettings, adapter)
        parts = Parts(size, encoder, discriminative, queried, queries, blocks, vit, freeze_vit, adapted)
        self.core = build_core(parts)
        self.inference = restored(SessionSettings, inference) or SessionSettings()
        self.recipe = restored(TrainingSettings, recipe) or TrainingSettings()
        self.encoder_lr, self.milestones = encoder_lr, milestones
        self.method_name, self.variant = parts.row()
        self.needs_backbone = parts.kind != "resnet" and freeze_vit and backbone is None
        if backbone not in (None, "random"):
            load_backbone(self.core.encoder, backbone)
        if mask_backbone is not None:
            load_imagenet(self.core.mask_encoder.trunk, mask_backbone)
        if self.weights not in (None, "random"):
            self.weights_file = load_weights(self.core, self.weights)
            self.weights_note = self.weights_file.name

    def session(self, length: int | None = None) -> SSLVOSSession:
        """A session with this module's test settings, whatever the length."""
        return SSLVOSSession(self.core, self.inference)

    def on_fit_start(self) -> None:
        """Refuse to train on a frozen ViT that knows nothing.

        Raises:
            InputError: no weights were given for it.
        """
        if self.needs_backbone and self.weights in (None, "random") and self.trainer.ckpt_path is None:
            raise InputError(
                "the ViT is frozen and has no weights: give --model.backbone with a file or folder of Depth Anything, "
                "DINOv2 or MAE (random to train on an untrained one on purpose)"
            )

    def losses(self, clip: Clip) -> dict[str, Tensor]:
        """Cross-entropy and dice on points, and both of the auxiliary heads; see ``clip_losses``."""
        return clip_losses(self.core, clip, self.recipe)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The files that training started from are not asked for again: the checkpoint holds all weights."""
        super().on_save_checkpoint(checkpoint)
        stored = checkpoint.get("hyper_parameters", {})
        if stored.get("backbone") is not None:
            stored["backbone"] = "random"
        if stored.get("mask_backbone") is not None:
            stored["mask_backbone"] = None

    def parameter_groups(self) -> list[dict[str, Any]]:
        """A lower rate for the image encoder; no decay of biases, norms and query embeddings."""
        groups = optim.parameter_groups(
            self, self.lr, self.weight_decay, lambda name: self.encoder_lr if ".encoder." in f".{name}" else 1.0
        )
        transformer = self.core.transformer
        queries = [transformer.query_init, transformer.query_pe]
        kept = {id(parameter) for parameter in queries}
        for group in groups:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in kept]
        return [*groups, {"params": queries, "lr": self.lr, "weight_decay": 0.0}]

    def configure_optimizers(self) -> Any:
        """AdamW; with ``milestones`` in steps, as published, else with warm-up and cosine."""
        chosen = super().configure_optimizers()
        if self.milestones:
            schedule = MultiStepLR(chosen["optimizer"], self.milestones, gamma=0.1)
            chosen["lr_scheduler"] = {"scheduler": schedule, "interval": "step"}
        return chosen
