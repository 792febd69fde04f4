"""Multi-head attention (Vaswani et al., arXiv 1706.03762)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.nn.fast import sdpa

QUERY, KEY, VALUE = range(3)
"""Parts of the packed projection."""


class MultiHeadAttention(nn.Module):
    """Multi-head attention with the parameters of ``nn.MultiheadAttention``, whose state dicts it loads.

    Unlike torch's module it takes one boolean mask a sample, and its projections can be called apart from the
    attention itself.

    Args:
        channels: C, of queries, keys, values and output.
        heads: number of heads; divides ``channels``.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def project(self, x: Tensor, part: int) -> Tensor:
        """Project tokens and split them into heads.

        Args:
            x: (..., L, C).
            part: ``QUERY``, ``KEY`` or ``VALUE``.

        Returns:
            (..., heads, L, C / heads).
        """
        projected = F.linear(x, self.in_proj_weight.chunk(3)[part], self.in_proj_bias.chunk(3)[part])
        heads: Tensor = projected.unflatten(-1, (self.heads, -1))
        return heads.transpose(-2, -3)

    def read(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend with projected queries, keys and values, and project the result.

        Args:
            query: (..., heads, L, C / heads).
            key: (..., heads, S, C / heads).
            value: (..., heads, S, C / heads).
            mask: bool, broadcast to (..., heads, L, S); True where a query may attend to a key. None = everywhere.

        Returns:
            (..., L, C).
        """
        attended = sdpa(query, key, value, attn_mask=mask).transpose(-2, -3).flatten(-2)
        out: Tensor = self.out_proj(attended)
        return out

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend with queries (B, L, C) to keys and values (B, S, C): (B, L, C).

        Args:
            query: (B, L, C).
            key: (B, S, C).
            value: (B, S, C).
            mask: bool, broadcast to (B, heads, L, S); True where a query may attend to a key. None = everywhere.
        """
        return self.read(self.project(query, QUERY), self.project(key, KEY), self.project(value, VALUE), mask)
