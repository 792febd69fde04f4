"""What the core asks of an image encoder, and the ResNet baseline."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from common.nn.resnet import ResNet


class FeatureEncoder(nn.Module, ABC):
    """Image to maps at strides 16, 8 and 4: subclass it, set the attributes, define ``forward``.

    Attributes:
        widths: channels of the maps at strides 16, 8 and 4.
        multiple: sides of the image are multiples of it; the session pads.
    """

    widths: tuple[int, int, int]
    multiple: int = 16

    @abstractmethod
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Float (B, 3, H, W), normalised by ImageNet's mean and deviation, to (B, widths[i], H / 16, 8, 4 ...)."""


class ResNetEncoder(FeatureEncoder):
    """ResNet-50 (Cutie-base) or ResNet-18 (Cutie-small) or a thin one, up to stride 16.

    Args:
        depths, widths, bottleneck, frozen_norm: see ``ResNet``.
    """

    def __init__(
        self,
        depths: Sequence[int] = (3, 4, 6),
        widths: Sequence[int] = (64, 128, 256),
        bottleneck: bool = True,
        frozen_norm: bool = True,
    ) -> None:
        super().__init__()
        self.trunk = ResNet(depths, widths, bottleneck, frozen_norm=frozen_norm)
        f4, f8, f16 = self.trunk.widths
        self.widths = (f16, f8, f4)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See ``FeatureEncoder``."""
        f4, f8, f16 = self.trunk(image)
        return f16, f8, f4


def resnet50() -> ResNetEncoder:
    """The trunk of Cutie-base."""
    return ResNetEncoder()


def resnet18() -> ResNetEncoder:
    """The trunk of Cutie-small."""
    return ResNetEncoder((2, 2, 2), bottleneck=False)


def resnet_nano() -> ResNetEncoder:
    """A thin trunk that learns from scratch, batch norms too."""
    return ResNetEncoder((1, 1, 1), (16, 32, 64), bottleneck=False, frozen_norm=False)
