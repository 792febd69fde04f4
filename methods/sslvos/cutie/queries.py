"""How object queries read pixels: masked attention (Cutie), or the discriminative query (equations 4 to 6)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.nn.fast import sdpa
from methods.sslvos.settings import DiscriminativeSettings


class Attention(nn.Module):
    """Multi-head attention with one packed projection, laid out as ``nn.MultiheadAttention``."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
        """(B, M, C), (B, N, C), (B, N, C) to (B, M, C); ``allowed`` bool (B, M, N), some of every row."""
        parts = zip((query, key, value), self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True)
        q, k, v = (
            F.linear(x, weight, bias).unflatten(-1, (self.heads, -1)).transpose(1, 2) for x, weight, bias in parts
        )
        out = sdpa(q, k, v, attn_mask=None if allowed is None else allowed[:, None])
        return self.out_proj(out.transpose(1, 2).flatten(2))


class MaskedRead(nn.Module):
    """Q' + attention of Q' = LN(Q) to the pixels that each query may see."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = Attention(channels, heads)

    def forward(self, query: Tensor, pixels: Tensor, query_pe: Tensor, pixel_pe: Tensor, allowed: Tensor) -> Tensor:
        """Queries (B, Q, C), pixels (B, P, C), their encodings, ``allowed`` bool (B, Q, P) to queries."""
        query = self.norm(query)
        return query + self.attention(query + query_pe, pixels + pixel_pe, pixels, allowed)


class DiscriminativeRead(nn.Module):
    """Each query picks the most similar pixel that it may see, and is updated by it.

    Q_s = F[argmax (F Qᵀ where allowed)]   (4)
    A = W_p (Q * Q_s)                      (5)
    Q_out = W_out (α A / |A| + Q_s) + Q'   (6)

    Gradients reach the features that were picked, not the choice.
    """

    def __init__(self, channels: int, settings: DiscriminativeSettings) -> None:
        super().__init__()
        self.settings = settings
        self.norm = nn.LayerNorm(channels)
        self.proj = nn.Linear(channels, channels) if settings.project else nn.Identity()
        self.final = nn.Linear(channels, channels)
        self.alpha = nn.Parameter(torch.ones(1, 1, channels))

    def forward(self, query: Tensor, pixels: Tensor, query_pe: Tensor, pixel_pe: Tensor, allowed: Tensor) -> Tensor:
        """As ``MaskedRead``."""
        query = self.norm(query)
        key, encoded = F.normalize(query + query_pe, dim=-1), F.normalize(pixels + pixel_pe, dim=-1)
        salient = self._salient(key, encoded, pixels, allowed)
        update = self.proj(key * salient)
        update = F.normalize(update, dim=-1 if self.settings.norm == "channels" else 1)
        return query + self.final(self.alpha * update + salient)

    def _salient(self, key: Tensor, encoded: Tensor, pixels: Tensor, allowed: Tensor) -> Tensor:
        """Q_s (B, Q, C): per head the feature at the arg-max."""
        k, x = (t.unflatten(-1, (self.settings.heads, -1)).transpose(1, 2) for t in (key, encoded))  # (B, heads, ., d)
        similarity = (k @ x.transpose(-1, -2)).masked_fill(~allowed[:, None], float("-inf"))
        index = similarity.argmax(-1)
        source = x
        if self.settings.gathered == "raw":
            source = pixels.unflatten(-1, (self.settings.heads, -1)).transpose(1, 2)
        picked = source.gather(2, index[..., None].expand(-1, -1, -1, source.shape[-1]))
        return picked.transpose(1, 2).flatten(2)
