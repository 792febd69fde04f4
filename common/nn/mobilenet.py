"""MobileNetV2 at output stride 16 (Sandler et al., arXiv 1801.04381), with torchvision's parameter names."""

from __future__ import annotations

from torch import Tensor, nn

# Each stage: expansion, channels, blocks, stride of its first block, dilation of its first block, of the others.
# Strides and dilations differ from the classification network after stride 16, where a dilation replaces the stride.
_STAGES = [
    (1, 16, 1, 1, 1, 1),
    (6, 24, 2, 2, 1, 1),
    (6, 32, 3, 2, 1, 1),
    (6, 64, 4, 2, 1, 1),
    (6, 96, 3, 1, 1, 1),
    (6, 160, 3, 1, 1, 2),
    (6, 320, 1, 1, 2, 2),
]
_OUTPUTS = (4, 7, 14, 19)  # a map is returned after so many of the 19 feature blocks


def conv_norm(
    inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Sequential:
    """Return a convolution without bias, followed by batch norm and ReLU6.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: side of the kernel, odd; the padding keeps the size at stride 1.
        stride: of the convolution.
        dilation: of the convolution.
        groups: of the convolution.
    """
    padding = kernel // 2 * dilation
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """Inverted residual block: 1x1 expansion, 3x3 depth-wise convolution, linear 1x1 projection.

    The residual connection is there where input and output have the same shape.

    Args:
        inputs: input channels.
        outputs: output channels.
        expansion: ratio of the hidden channels to ``inputs``; without an expansion layer where it is 1.
        stride: of the depth-wise convolution.
        dilation: of the depth-wise convolution.
    """

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int, dilation: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        projection = nn.Conv2d(hidden, outputs, 1, bias=False)
        nn.init.kaiming_normal_(projection.weight, mode="fan_out")
        self.conv = nn.Sequential(
            *([conv_norm(inputs, hidden, 1)] if expansion != 1 else []),
            conv_norm(hidden, hidden, 3, stride, dilation, hidden),
            projection,
            nn.BatchNorm2d(outputs),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h / stride, w / stride)."""
        out: Tensor = self.conv(x)
        return x + out if self.residual else out


class MobileNetV2(nn.Module):
    """The feature extractor, without the classifier.

    Attributes:
        widths: channels of the returned maps.
    """

    widths: tuple[int, ...] = (24, 32, 96, 1280)

    def __init__(self) -> None:
        super().__init__()
        features: list[nn.Module] = [conv_norm(3, 32, 3, 2)]
        inputs = 32
        for expansion, outputs, blocks, stride, first_dilation, dilation in _STAGES:
            for i in range(blocks):
                block = (stride, first_dilation) if i == 0 else (1, dilation)
                features.append(InvertedResidual(inputs, outputs, expansion, *block))
                inputs = outputs
        features.append(conv_norm(inputs, 1280, 1))
        self.features = nn.Sequential(*features)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the maps (B, widths[i], H / s, W / s) at strides s = 4, 8, 16 and 16 of an image (B, 3, H, W)."""
        maps: list[Tensor] = []
        x = image
        for count, feature in enumerate(self.features, 1):
            x = feature(x)
            if count in _OUTPUTS:
                maps.append(x)
        return maps
