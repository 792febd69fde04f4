"""SSLVOS and its ablations, Cutie among them, as one LightningModule."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from common import optim
from common.data.clip import Clip
from common.errors import InputError
from common.nn.resnet import load_imagenet
from common.segmenter import VideoSegmenter
from common.settings import restore
from methods.sslvos.build import EncoderKind, Parts, Size, build_core, load_backbone
from methods.sslvos.cutie.core import SSLVOSNetwork
from methods.sslvos.encoders.vit import VitSize
from methods.sslvos.session import SessionSettings, SSLVOSSession
from methods.sslvos.settings import AdapterSettings, DiscriminativeSettings
from methods.sslvos.training import TrainingSettings, clip_losses
from methods.sslvos.weights import PUBLISHED, cutie_state

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
        kwargs: see ``VideoSegmenter``; ``weights`` may be a published Cutie checkpoint.

    Raises:
        InputError: settings that do not fit each other, or files that do not fit.
    """

    published_weights = PUBLISHED
    start_files: ClassVar[dict[str, str | None]] = {"backbone": "random", "mask_backbone": None}
    network: SSLVOSNetwork

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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.loss_weights = {"sensory": AUXILIARY, "queries": AUXILIARY} | self.loss_weights
        queried, adapted = restore(DiscriminativeSettings, equation_variant), restore(AdapterSettings, adapter)
        self.parts = parts = Parts(size, encoder, discriminative, queried, queries, blocks, vit, freeze_vit, adapted)
        self.network = build_core(parts)
        self.inference = restore(SessionSettings, inference) or SessionSettings()
        self.recipe = restore(TrainingSettings, recipe) or TrainingSettings()
        self.encoder_lr = encoder_lr
        self.method_name, self.variant = parts.row()
        self.needs_backbone = parts.kind != "resnet" and freeze_vit and backbone is None
        if backbone not in (None, "random"):
            load_backbone(self.network.encoder, backbone)
        if mask_backbone is not None:
            load_imagenet(self.network.mask_encoder.trunk, mask_backbone)
        self.load_weights()

    def architecture(self) -> dict[str, Any]:
        """Return the size, the encoders and the settings of the core."""
        vit = self.parts.vit_size if self.parts.kind != "resnet" else None
        names = {"size": self.parts.size, "encoder": self.parts.kind, "vit": vit}
        core, adapter = self.parts.settings, self.parts.adapter
        return names | {
            "queries": core.queries,
            "blocks": core.blocks,
            "reading": asdict(core.discriminative) if core.discriminative else None,
            "adapter": asdict(replace(adapter or AdapterSettings(), drop_path=0.0)) if vit else None,
        }

    def from_published(self, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
        """Return Cutie's weights under the network's names."""
        return cutie_state(self.network, state)

    def session(self, length: int | None = None) -> SSLVOSSession:
        """A session with this module's test settings, whatever the length."""
        return SSLVOSSession(self.network, self.inference)

    def on_fit_start(self) -> None:
        """Refuse to train with a frozen ViT that has random weights.

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
        return clip_losses(self.network, clip, self.recipe)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return groups with a lower rate for the image encoder; no decay of biases, norms and query embeddings."""
        return optim.parameter_groups(
            self,
            self.lr,
            self.weight_decay,
            lambda name: self.encoder_lr if ".encoder." in name else 1.0,
            undecayed=r"\.transformer\.query_(init|pe)$",
        )
