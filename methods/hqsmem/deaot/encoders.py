"""Image encoders of DeAOT: maps at strides 4, 8 and 16, and the deepest map, at stride 16 as well."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from common.nn.frozen_norm import FrozenNormModule, batch_norms
from common.nn.mobilenet import MobileNetV2
from common.nn.resnet import ResNet
from common.nn.swin import SwinBlock, SwinTransformer
from methods.hqsmem.settings import EncoderName


class Encoder(FrozenNormModule, ABC):
    """Base class: set the attributes and define ``forward``.

    Attributes:
        widths: channels of the four maps.
        aligned: images have sides 16 k + 1 and maps are resized with ``align_corners``; else sides are 16 k.
    """

    widths: tuple[int, ...]
    aligned: bool = True

    @abstractmethod
    def forward(self, image: Tensor) -> list[Tensor]:
        """Encode images.

        Args:
            image: float (B, 3, H, W), normalised by ImageNet's mean and standard deviation.

        Returns:
            Four maps float (B, widths[i], H / s, W / s) at strides s = 4, 8, 16 and 16.
        """

    def freeze(self, *parts: nn.Module) -> None:
        """Exclude the given parts and all batch norms from training; as published, the stem and the first stage."""
        for part in [*parts, *batch_norms(self)]:
            part.requires_grad_(False)


class ResNetEncoder(Encoder):
    """ResNet-50 without its last stage.

    Args:
        nano: a thin ResNet instead, which is trained from scratch, batch norms included.
    """

    def __init__(self, nano: bool = False) -> None:
        super().__init__()
        if nano:
            self.trunk = ResNet((1, 1, 1), (16, 32, 64), bottleneck=False, frozen_norm=False)
            self.frozen_norm = False
        else:
            self.trunk = ResNet()
            self.freeze(self.trunk.conv1, self.trunk.get_submodule("layer1"))
        self.widths = (*self.trunk.widths, self.trunk.widths[-1])

    def forward(self, image: Tensor) -> list[Tensor]:
        """See ``Encoder.forward``."""
        maps: list[Tensor] = self.trunk(image)
        return [*maps, maps[-1]]


class MobileNetEncoder(MobileNetV2, Encoder):
    """MobileNetV2, the encoder of DeAOT-T, S, B and L; parameters have torchvision's names."""

    def __init__(self) -> None:
        super().__init__()
        self.freeze(self.features[:4])


class SwinEncoder(SwinTransformer, Encoder):
    """Swin-B without its last stage, pre-trained on ImageNet-22k: the encoder of SwinB-DeAOT-L."""

    aligned = False

    def __init__(self) -> None:
        super().__init__()
        self.widths = (*self.widths, self.widths[-1])
        first_stage = self.layers.get_submodule("0.blocks")
        self.freeze(self.patch_embed, first_stage)
        for block in first_stage.children():
            assert isinstance(block, SwinBlock)
            block.drop_path.rate = 0.0  # a frozen stage is deterministic

    def forward(self, image: Tensor) -> list[Tensor]:
        """See ``Encoder.forward``."""
        maps = super().forward(image)
        return [*maps, maps[-1]]


def build_encoder(name: EncoderName) -> Encoder:
    """Build an encoder with its initial weights.

    Args:
        name: ``nano``, ``mobilenetv2``, ``resnet50`` or ``swin_base``.
    """
    if name == "mobilenetv2":
        return MobileNetEncoder()
    if name == "swin_base":
        return SwinEncoder()
    return ResNetEncoder(nano=name == "nano")
