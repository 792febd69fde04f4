"""ResNet up to stride 16 (He et al., arXiv 1512.03385), with torchvision's parameter names and any widths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.checkpoints import load_state, load_strict, with_counters
from common.nn.frozen_norm import FrozenNormModule


class ResidualBlock(nn.Module):
    """Basic block of two 3x3 convolutions (ResNet-18), or bottleneck block of 1x1, 3x3 and 1x1 (ResNet-50).

    Args:
        inputs: input channels.
        width: channels of the convolutions; the last one of a bottleneck has four times as many.
        stride: of the first 3x3 convolution.
        bottleneck: whether this is a bottleneck block.
    """

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = width * 4 if bottleneck else width
        shapes = [(1, 1), (3, stride), (1, 1)] if bottleneck else [(3, stride), (3, 1)]
        widths = [inputs, *[width] * (len(shapes) - 1), outputs]
        for i, (kernel, step) in enumerate(shapes, 1):
            conv = nn.Conv2d(widths[i - 1], widths[i], kernel, step, kernel // 2, bias=False)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out")
            self.add_module(f"conv{i}", conv)
            self.add_module(f"bn{i}", nn.BatchNorm2d(widths[i]))
        self.count = len(shapes)
        self.downsample = None  # the identity, where the shape does not change
        if stride != 1 or inputs != outputs:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h / stride, w / stride)."""
        out = x
        for i in range(1, self.count + 1):
            out = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(out))
            if i < self.count:
                out = out.relu_()
        return (out + (x if self.downsample is None else self.downsample(x))).relu_()


class ResNet(FrozenNormModule):
    """The stem and the first three stages; the defaults are those of ResNet-50.

    Args:
        depths: number of blocks of each stage.
        widths: channels of each stage; with ``bottleneck`` its output has four times as many.
        bottleneck: whether blocks are ResNet-50's bottlenecks, else ResNet-18's basic blocks.
        channels: of the input.
        frozen_norm: batch norms keep their running statistics in training.

    Attributes:
        widths: channels of the maps at strides 4, 8 and 16.
    """

    def __init__(
        self,
        depths: Sequence[int] = (3, 4, 6),
        widths: Sequence[int] = (64, 128, 256),
        bottleneck: bool = True,
        channels: int = 3,
        frozen_norm: bool = True,
    ) -> None:
        super().__init__()
        self.frozen_norm = frozen_norm
        self.conv1 = nn.Conv2d(channels, widths[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        inputs = widths[0]
        for i, (depth, width) in enumerate(zip(depths, widths, strict=True), 1):
            blocks = []
            for block in range(depth):
                blocks.append(ResidualBlock(inputs, width, 2 if i > 1 and block == 0 else 1, bottleneck))
                inputs = width * 4 if bottleneck else width
            self.add_module(f"layer{i}", nn.Sequential(*blocks))
        self.widths = tuple(width * 4 if bottleneck else width for width in widths)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps (B, widths[i], H / s, W / s) at strides s = 4, 8, 16 of images (B, channels, H, W)."""
        return self.stages(self.conv1(x))

    def stages(self, x: Tensor) -> list[Tensor]:
        """Continue from the output of ``conv1``, which a caller may have computed in parts; see ``forward``."""
        x, maps = F.max_pool2d(self.bn1(x).relu_(), 3, 2, 1), []
        for i in (1, 2, 3):
            x = self.get_submodule(f"layer{i}")(x)
            maps.append(x)
        return maps


def load_imagenet(trunk: ResNet, path: str | Path) -> None:
    """Load a torchvision ResNet file; the last stage and the classifier, which the trunk lacks, are left out.

    Input channels beyond the file's three start at zero.

    Args:
        trunk: the network.
        path: the file.

    Raises:
        InputError: no such file, or keys that do not fit.
    """
    state = {k: v for k, v in load_state(path).items() if not k.startswith(("layer4.", "fc."))}
    state = with_counters(trunk, state)
    first, wanted = state.get("conv1.weight"), trunk.conv1.weight
    if first is not None and first.shape[1] < wanted.shape[1]:
        extra = torch.zeros(len(first), wanted.shape[1] - first.shape[1], *first.shape[2:])
        state["conv1.weight"] = torch.cat([first, extra], 1)
    load_strict(trunk, state, path)
