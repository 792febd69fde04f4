"""The interface of image encoders, and the ResNets of Cutie."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from common.nn.resnet import ResNet


class FeatureEncoder(nn.Module, ABC):
    """Base class of image encoders: subclass it, set the attributes and define ``forward``.

    Attributes:
        widths: channels of the maps at strides 16, 8 and 4.
        multiple: height and width of the input must be multiples of it; the tracker pads.
    """

    widths: tuple[int, int, int]
    multiple: int = 16

    @abstractmethod
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode images.

        Args:
            image: float (B, 3, H, W), normalised by ImageNet's mean and standard deviation.

        Returns:
            Maps (B, widths[i], H / s, W / s) at the strides s = 16, 8 and 4.
        """


class ResNetEncoder(FeatureEncoder):
    """A ResNet up to stride 16: ResNet-50 in Cutie-base, ResNet-18 in Cutie-small.

    Args:
        depths: see ``ResNet``.
        widths: see ``ResNet``.
        bottleneck: see ``ResNet``.
        frozen_norm: see ``ResNet``.
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
    """Build the image encoder of Cutie-base."""
    return ResNetEncoder()


def resnet18() -> ResNetEncoder:
    """Build the image encoder of Cutie-small."""
    return ResNetEncoder((2, 2, 2), bottleneck=False)


def resnet_nano() -> ResNetEncoder:
    """Build a thin ResNet that is trained from scratch, batch norms included."""
    return ResNetEncoder((1, 1, 1), (16, 32, 64), bottleneck=False, frozen_norm=False)
