"""Stochastic depth (Huang et al., arXiv 1603.09382)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Drop a residual branch for random samples in training, and scale the others by 1 / (1 - rate).

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
