"""Build the network from hyper-parameters, and name its row of a table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from common.errors import InputError
from common.nn.resnet import load_imagenet
from common.settings import changed
from methods.sslvos.cutie.core import SSLVOSNetwork
from methods.sslvos.encoders.base import FeatureEncoder, ResNetEncoder, resnet18, resnet50, resnet_nano
from methods.sslvos.encoders.bidirectional import BidirectionalEncoder
from methods.sslvos.encoders.spatial_semantic import PyramidEncoder, SpatialSemanticEncoder, TwoBranchEncoder
from methods.sslvos.encoders.vit import ViT, VitSize, load_vit
from methods.sslvos.settings import AdapterSettings, CoreSettings, DiscriminativeSettings, nano

Size = Literal["nano", "cutie-small", "cutie-base", "sslvos"]
EncoderKind = Literal["resnet", "pyramid", "spatial", "full", "vit-adapter", "vit-comer"]

_COMPONENT = {"pyramid": "+ViT", "spatial": "+Spatial", "full": "+Semantic (Full)"}
_COMPONENT |= {"vit-adapter": "adapter=ViT-Adapter", "vit-comer": "adapter=ViT-CoMer"}
_VIT_NAME = {"nano": "nano", "small": "ViT-S", "base": "ViT-B", "large": "ViT-L", "mae-base": "MAE ViT-B"}
_TRUNK_NAME = {"nano": "nano", "cutie-small": "small", "cutie-base": "base", "sslvos": "ResNet-50"}


@dataclass(frozen=True)
class Parts:
    """Hyper-parameters that determine the network; None = the default of its size.

    Attributes:
        size: see ``SSLVOS``, as for all others.
        encoder: image encoder.
        discriminative: discriminative queries in place of masked attention.
        equation_variant: of equations 4 to 6.
        queries: object queries of a target.
        blocks: blocks of the object transformer.
        vit: size of the ViT.
        freeze_vit: do not train the ViT.
        adapter: variant of equations 1 to 3.
    """

    size: Size = "nano"
    encoder: EncoderKind | None = None
    discriminative: bool | None = None
    equation_variant: DiscriminativeSettings | None = None
    queries: int | None = None
    blocks: int | None = None
    vit: VitSize | None = None
    freeze_vit: bool = True
    adapter: AdapterSettings | None = None

    @property
    def kind(self) -> EncoderKind:
        """The image encoder, by default that of the size."""
        return self.encoder or ("full" if self.size == "sslvos" else "resnet")

    @property
    def vit_size(self) -> VitSize:
        """The size of the ViT, where the encoder has one."""
        return self.vit or ("nano" if self.size == "nano" else "base")

    @property
    def settings(self) -> CoreSettings:
        """The widths and counts of the network.

        Raises:
            InputError: a variant of the discriminative queries where they are off.
        """
        small, cutie = self.size == "nano", self.size.startswith("cutie")
        with_queries = not cutie if self.discriminative is None else self.discriminative
        if self.equation_variant and not with_queries:
            raise InputError(
                "equation_variant is of the discriminative queries, which are off; set discriminative: true"
            )
        variant = (self.equation_variant or DiscriminativeSettings()) if with_queries else None
        base = nano() if small else CoreSettings() if cutie else CoreSettings(queries=8, blocks=5)
        queries, blocks = self.queries or base.queries, self.blocks or base.blocks
        return replace(base, queries=queries, blocks=blocks, discriminative=variant)

    def row(self) -> tuple[str, str]:
        """Return method and variant: the paper's names of the components, and the settings that differ from it."""
        settings, default = self.settings, replace(self, queries=None, blocks=None).settings
        labels = [_TRUNK_NAME[self.size] if self.kind == "resnet" else _VIT_NAME[self.vit_size]]
        if self.kind != "resnet":
            labels.append(_COMPONENT[self.kind] + ("" if self.freeze_vit else ", ViT trained"))
        elif settings.discriminative:
            labels.append("+Discriminative Query")
        labels += changed(settings, default)  # of the counts: queries and blocks
        labels += changed(self.equation_variant, DiscriminativeSettings()) + changed(self.adapter, AdapterSettings())
        if self.kind != "resnet" and not settings.discriminative:
            labels.append("masked attention")
        cutie = self.kind == "resnet" and not settings.discriminative
        return "Cutie" if cutie else "SSLVOS", ", ".join(labels)


def build_core(parts: Parts) -> SSLVOSNetwork:
    """Build the network with its initial weights."""
    return SSLVOSNetwork(build_encoder(parts), parts.settings)


def build_encoder(parts: Parts) -> FeatureEncoder:
    """Build the image encoder with its initial weights.

    Raises:
        InputError: variants of the spatial-semantic block for another adapter.
    """
    if parts.kind == "resnet":
        return {"nano": resnet_nano, "cutie-small": resnet18}.get(parts.size, resnet50)()
    vit, kind = ViT(parts.vit_size, parts.freeze_vit), parts.kind
    small = parts.vit_size == "nano"
    if kind == "pyramid":
        return PyramidEncoder(vit, 64 if small else 256)
    stem = 16 if small else 64
    if kind == "vit-adapter" or kind == "vit-comer":
        if parts.adapter and "paper" in (parts.adapter.roles, parts.adapter.residual):
            raise InputError(f"roles and residual are variants of the spatial-semantic block, not of {kind}; drop them")
        return BidirectionalEncoder(vit, kind, parts.adapter, stem)
    return SpatialSemanticEncoder(vit, kind == "full", parts.adapter, stem)


def load_backbone(encoder: FeatureEncoder, path: str | Path) -> None:
    """Load ImageNet weights of a ResNet, or ViT weights.

    Raises:
        InputError: nothing there, or something that does not fit.
    """
    if isinstance(encoder, ResNetEncoder):
        load_imagenet(encoder.trunk, path)
    elif isinstance(encoder, PyramidEncoder | TwoBranchEncoder):
        load_vit(encoder.vit, path)
