"""MobileNetV2 at output stride 16 (Sandler et al., arXiv 1801.04381), with torchvision's names."""

from __future__ import annotations

from torch import Tensor, nn

from methods.hqsmem.deaot.encoders.base import Encoder

# expansion, channels, blocks, stride of the first block, dilation of the first, of the others. The last stride of the
# classification network is a dilation here.
_STAGES = [
    (1, 16, 1, 1, 1, 1),
    (6, 24, 2, 2, 1, 1),
    (6, 32, 3, 2, 1, 1),
    (6, 64, 4, 2, 1, 1),
    (6, 96, 3, 1, 1, 1),
    (6, 160, 3, 1, 1, 2),
    (6, 320, 1, 1, 2, 2),
]
_CUTS = (4, 7, 14, 19)  # where the maps end among the 19 features


def conv_norm(
    inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, batch norm, ReLU6."""
    padding = kernel // 2 * dilation
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter each channel by 3x3, narrow by 1x1; a residual where sizes allow."""

    def __init__(self, inputs: int, outputs: int, expand: int, stride: int, dilation: int) -> None:
        super().__init__()
        hidden = inputs * expand
        last = nn.Conv2d(hidden, outputs, 1, bias=False)
        nn.init.kaiming_normal_(last.weight, mode="fan_out")
        self.conv = nn.Sequential(
            *([conv_norm(inputs, hidden, 1)] if expand != 1 else []),
            conv_norm(hidden, hidden, 3, stride, dilation, hidden),
            last,
            nn.BatchNorm2d(outputs),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) to (B, outputs, h / stride, w / stride)."""
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(Encoder):
    """The trunk of DeAOT-T, S, B and L."""

    widths = (24, 32, 96, 1280)

    def __init__(self) -> None:
        super().__init__()
        features: list[nn.Module] = [conv_norm(3, 32, 3, 2)]
        inputs = 32
        for expand, outputs, blocks, stride, first, rest in _STAGES:
            for i in range(blocks):
                block = (stride, first) if i == 0 else (1, rest)
                features.append(InvertedResidual(inputs, outputs, expand, *block))
                inputs = outputs
        features.append(conv_norm(inputs, 1280, 1))
        self.features = nn.Sequential(*features)
        self.freeze(self.features[: _CUTS[0]])

    def forward(self, image: Tensor) -> list[Tensor]:
        """See ``Encoder``."""
        maps: list[Tensor] = []
        x = image
        for i, feature in enumerate(self.features, 1):
            x = feature(x)
            if i in _CUTS:
                maps.append(x)
        return maps
