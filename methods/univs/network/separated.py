"""Separated self-attention (SepSA, equation 4) over queries and time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods.univs.network.attention import Attention
from methods.univs.settings import SelfAttention


class SeparatedSelfAttention(nn.Module):
    """norm(x + attention(x)), where one softmax spans the T copies of all queries that a query may read."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(channels, heads)
        self.norm = nn.LayerNorm(channels)

    def forward(
        self, x: Tensor, code: Tensor, learnable: int, mode: SelfAttention, valid: Tensor | None = None
    ) -> Tensor:
        """Queries x (B, Q, T, C), the first ``learnable`` of them learnable, with codes of the same shape.

        Args:
            valid: bool (B, Q - learnable), prompt queries that others may read.
        """
        learned, prompted = slice(0, learnable), slice(learnable, x.shape[1])
        if x.shape[1] == learnable or mode == "all":
            mask = None if valid is None else self._readable(valid, learnable, x.shape[2])
            return self.norm(x + self._read(x, code, slice(None), slice(None), mask))
        parts = [self._read(x, code, learned, learned)]
        if mode == "sep-blocked":
            own, own_code = (part[:, prompted].flatten(0, 1)[:, None] for part in (x, code))
            parts.append(self._read(own, own_code, slice(None), slice(None)).view_as(x[:, prompted]))
        else:
            read = prompted if mode == "sep" else slice(None)
            mask = None
            if valid is not None:
                mask = self._readable(valid, 0 if mode == "sep" else learnable, x.shape[2])
                mask = mask if mode == "sep" else mask[:, :, learnable * x.shape[2] :]
            parts.append(self._read(x, code, prompted, read, mask))
        return self.norm(x + torch.cat(parts, 1))

    def _read(self, x: Tensor, code: Tensor, readers: slice, read: slice, mask: Tensor | None = None) -> Tensor:
        """What some queries (B, q, T, C) read from others."""
        query = (x[:, readers] + code[:, readers]).flatten(1, 2)
        key, value = (x[:, read] + code[:, read]).flatten(1, 2), x[:, read].flatten(1, 2)
        return self.attention(query, key, value, mask).view_as(x[:, readers])

    @staticmethod
    def _readable(valid: Tensor, learnable: int, frames: int) -> Tensor:
        """Bool (B, 1, Q T, Q T): keys of valid queries, and of the reader itself."""
        keys = torch.cat([valid.new_ones(len(valid), learnable), valid], 1).repeat_interleave(frames, 1)
        queries = torch.arange(keys.shape[1], device=valid.device) // frames
        return (keys[:, None] | (queries[:, None] == queries))[:, None]
