"""Image encoders of the base tracker: maps at strides 4, 8 and 16, and the deepest one, at stride 16 too."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from common.nn.resnet import ResNet
from methods.hqsmem.settings import EncoderName


class Encoder(nn.Module, ABC):
    """Image to four maps: subclass it, set the attributes, define ``forward``.

    Attributes:
        widths: channels of the maps.
        aligned: maps of an input of side 16k + 1 (``align_corners`` in all resizing); else of 16k.
        frozen_norm: batch norms are constants.
    """

    widths: tuple[int, int, int, int]
    aligned: bool = True
    frozen_norm: bool = True

    @abstractmethod
    def forward(self, image: Tensor) -> list[Tensor]:
        """Float (B, 3, H, W), normalised by ImageNet's mean and deviation, to maps at strides 4, 8, 16 and 16."""

    def freeze(self, *parts: nn.Module) -> None:
        """Hold these parts and all batch norms constant in training; as published, stem and first stage."""
        norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        for part in [*parts, *norms]:
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> Encoder:
        """Training mode; frozen batch norms stay as they are in eval mode."""
        super().train(mode)
        if self.frozen_norm:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self


class ResNetEncoder(Encoder):
    """ResNet-50 without its last stage, or a thin ResNet that learns from scratch."""

    def __init__(self, nano: bool = False) -> None:
        super().__init__()
        if nano:
            self.trunk = ResNet((1, 1, 1), (16, 32, 64), bottleneck=False, frozen_norm=False)
            self.frozen_norm = False
        else:
            self.trunk = ResNet()
            self.freeze(self.trunk.conv1, self.trunk.get_submodule("layer1"))
        f4, f8, f16 = self.trunk.widths
        self.widths = (f4, f8, f16, f16)

    def forward(self, image: Tensor) -> list[Tensor]:
        """See ``Encoder``."""
        maps = self.trunk(image)
        return [*maps, maps[-1]]


def build_encoder(name: EncoderName) -> Encoder:
    """An encoder with its initial weights."""
    from methods.hqsmem.deaot.encoders.mobilenet import MobileNetV2
    from methods.hqsmem.deaot.encoders.swin import SwinEncoder

    if name == "mobilenetv2":
        return MobileNetV2()
    if name == "swin_base":
        return SwinEncoder()
    return ResNetEncoder(nano=name == "nano")
