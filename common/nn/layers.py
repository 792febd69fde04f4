"""Small layers: stochastic depth and a residual block with channel attention."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., arXiv 1603.09382).

    In training, a residual branch is dropped for random samples and scaled by 1 / (1 - rate) for the others.

    Args:
        rate: probability that a sample is dropped.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Apply to the output of a residual branch (B, ...)."""
        if not self.training or not self.rate:
            return x
        keep = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) >= self.rate
        return x * keep / (1 - self.rate)


class ChannelAttentionBlock(nn.Module):
    """Residual block x + w conv(relu(conv(relu(x)))) with a weight w for each channel.

    Efficient channel attention (ECA-Net, Wang et al., arXiv 1910.03151).
    The weights come from a 1-D convolution over the globally pooled channels and a sigmoid.

    Args:
        channels: C, of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        # Adaptive kernel size of ECA-Net with γ = 2 and b = 1, made odd: 5 for 256 channels.
        kernel = int((math.log2(channels) + 1) / 2) | 1
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to the same shape."""
        residual: Tensor = self.conv2(F.relu(self.conv1(F.relu(x))))
        weight: Tensor = self.conv(residual.mean((2, 3))[:, None])[:, 0].sigmoid()
        return x + residual * weight[..., None, None]
