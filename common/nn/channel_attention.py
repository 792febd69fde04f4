"""Residual block with efficient channel attention (ECA-Net, Wang et al., arXiv 1910.03151)."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn


class ChannelAttentionBlock(nn.Module):
    """x + w * conv(relu(conv(relu(x)))), w from a 1-D convolution over the pooled channels.

    Its kernel is ECA-Net's: (log2 C + 1) / 2 made odd, 5 for 256 channels.

    Args:
        channels: C, of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        kernel = int((math.log2(channels) + 1) / 2) | 1
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        out = self.conv2(F.relu(self.conv1(F.relu(x))))
        weight = self.conv(out.mean((2, 3))[:, None])[:, 0].sigmoid()
        return x + out * weight[..., None, None]
