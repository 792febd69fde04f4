"""Multi-head attention whose projections can be computed apart from the attention itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.nn.fast import sdpa


class MultiHeadAttention(nn.Module):
    """Multi-head attention with the parameters of ``nn.MultiheadAttention``.

    Args:
        channels: C of queries, keys and values.
        heads: attention heads; they divide the channels.
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
        """Project inputs (..., L, C) to heads (..., heads, L, C / heads).

        Args:
            x: inputs (..., L, C).
            part: 0 for queries, 1 for keys, 2 for values.
        """
        out = F.linear(x, self.in_proj_weight.chunk(3)[part], self.in_proj_bias.chunk(3)[part])
        return torch.unflatten(out, -1, (self.heads, -1)).transpose(-2, -3)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend with projected queries, keys and values, (N, heads, L or S, C / heads), and return (N, L, C).

        Args:
            query: projected queries.
            key: projected keys.
            value: projected values.
            mask: bool, broadcast to (N, heads, L, S), True where a query may attend to a key.
        """
        out: Tensor = self.out_proj(sdpa(query, key, value, attn_mask=mask).transpose(-2, -3).flatten(-2))
        return out

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return (N, L, C): queries (N, L, C) attend to keys and values (N, S, C).

        Args:
            query: queries (N, L, C).
            key: keys (N, S, C).
            value: values (N, S, C).
            mask: see ``attend``.
        """
        return self.attend(self.project(query, 0), self.project(key, 1), self.project(value, 2), mask)
