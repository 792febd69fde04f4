"""Attention and MLP blocks of the decoder: post-norm, residual, no dropout; plain torch.

Position codes are added to queries and keys, never to values.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.nn.fast import sdpa


def with_code(x: Tensor, code: Tensor | None) -> Tensor:
    """``x`` plus its position code, where it has one."""
    return x if code is None else x + code


class Attention(nn.Module):
    """Multi-head attention with ``nn.MultiheadAttention``'s parameters, open at the projections."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def project(self, x: Tensor, part: int) -> Tensor:
        """(..., L, C) as queries (part 0), keys (1) or values (2), (..., heads, L, C / heads)."""
        out = F.linear(x, self.in_proj_weight.chunk(3)[part], self.in_proj_bias.chunk(3)[part])
        return out.unflatten(-1, (self.heads, -1)).transpose(-2, -3)

    def read(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Answer (..., L, C) to projected queries; ``mask`` is True where a query may read a key."""
        return self.out_proj(sdpa(query, key, value, attn_mask=mask).transpose(-2, -3).flatten(-2))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Queries (N, L, C) read keys and values (N, S, C); ``mask`` bool, broadcast to (N, heads, L, S)."""
        return self.read(self.project(query, 0), self.project(key, 1), self.project(value, 2), mask)


class CrossAttention(nn.Module):
    """norm(x + attention(x, memory)): masked image cross-attention, and Lang2Img."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(channels, heads)
        self.norm = nn.LayerNorm(channels)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        code: Tensor | None = None,
        memory_code: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """X (N, Q, C) reads memory (N, S, C); ``mask`` bool (N, 1, Q, S), True where it may."""
        key = with_code(memory, memory_code)
        return self.norm(x + self.attention(with_code(x, code), key, memory, mask))


class FeedForward(nn.Module):
    """norm(x + MLP(x))."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, width)
        self.linear2 = nn.Linear(width, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to the same."""
        return self.norm(x + self.linear2(self.linear1(x).relu()))


class Perceptron(nn.Module):
    """Three linear layers with ReLU between them: the mask head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(channels, channels) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to the same."""
        first, second, last = self.layers
        return last(second(first(x).relu()).relu())
