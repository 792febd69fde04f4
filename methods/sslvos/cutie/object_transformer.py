"""The object transformer and the object memory that its queries start from (Cutie, section 3.2 and 3.4).

Legend: B batch, N targets, Q queries a target, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.nn.aggregate import soft_aggregate
from common.nn.channel_attention import ChannelAttentionBlock
from common.nn.position import sine_grid
from methods.sslvos.cutie.pixel_modules import tokens
from methods.sslvos.cutie.queries import Attention, DiscriminativeRead, MaskedRead
from methods.sslvos.settings import CoreSettings

_SCALE, _TEMPERATURE = 32.0, 128.0  # of the pixels' positions, as Cutie


class ObjectSummary(nn.Module):
    """A target's value map pooled into Q vectors: sums and areas, which add up over memory frames."""

    def __init__(self, settings: CoreSettings) -> None:
        super().__init__()
        width, self.queries = settings.embed, settings.queries
        self.input = nn.Linear(settings.value, width)
        self.feature = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.weight = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, self.queries))

    def forward(self, masks: Tensor, value: Tensor) -> Tensor:
        """Masks (B, N, H, W), values (B, N, value, h, w) to float32 (B, N, Q, C + 1), the area last.

        The first half of the queries pools inside the mask, the second outside.
        """
        size = value.shape[-2:]
        inside = F.interpolate(masks.float(), size, mode="area").flatten(2)[..., None]
        x = self.input(tokens(value))
        x = x + sine_grid(size, x.shape[-1], _SCALE, _TEMPERATURE, x.device)
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            side = torch.cat([inside, 1 - inside], -1).repeat_interleave(self.queries // 2, -1)
            weight = (self.weight(x).sigmoid() * side).transpose(-1, -2)
            return torch.cat([weight @ self.feature(x), weight.sum(-1, keepdim=True)], -1)


class QueryMLP(nn.Module):
    """Residual MLP on queries, normalised first."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)

    def forward(self, query: Tensor) -> Tensor:
        """(B, Q, C) to the same."""
        return query + self.linear2(self.linear1(self.norm(query)).relu())


class Block(nn.Module):
    """Queries read pixels, queries exchange, pixels read queries."""

    def __init__(self, settings: CoreSettings) -> None:
        super().__init__()
        width, heads = settings.embed, settings.heads
        discriminative = settings.discriminative
        self.read = DiscriminativeRead(width, discriminative) if discriminative else MaskedRead(width, heads)
        self.norm = nn.LayerNorm(width)
        self.exchange = Attention(width, heads)
        self.mlp = QueryMLP(width, settings.feedforward)
        self.write = Attention(width, heads)
        self.pixel_mlp = ChannelAttentionBlock(width)

    def forward(
        self, query: Tensor, pixels: Tensor, query_pe: Tensor, pixel_pe: Tensor, allowed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Queries (B N, Q, C), pixels (B N, C, h, w), encodings as tokens, ``allowed`` (B N, Q, h w)."""
        flat = tokens(pixels)
        query = self.norm(self.read(query, flat, query_pe, pixel_pe, allowed))
        encoded = query + query_pe
        query = self.mlp(query + self.exchange(encoded, encoded, query))
        flat = flat + self.write(flat + pixel_pe, query + query_pe, query)
        return query, self.pixel_mlp(flat.transpose(1, 2).unflatten(2, pixels.shape[-2:]).contiguous())


class ObjectTransformer(nn.Module):
    """Queries that start from the object memory restructure a target's pixels."""

    def __init__(self, settings: CoreSettings) -> None:
        super().__init__()
        width = settings.embed
        self.query_init = nn.Parameter(torch.randn(settings.queries, width))
        self.query_pe = nn.Parameter(torch.randn(settings.queries, width))
        self.memory_init = nn.Linear(width, width)
        self.memory_pe = nn.Linear(width, width)
        self.pixel_init = nn.Conv2d(width, width, 1)
        self.pixel_pe = nn.Conv2d(width, width, 1)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.blocks))
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in range(settings.blocks + 1))

    def forward(self, pixels: Tensor, memory: Tensor, valid: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Pixels of the targets through all blocks.

        Args:
            pixels: (B, N, C, h, w).
            memory: (B, N, Q, C + 1), sums and areas.
            valid: (B, N), 0 where a row is no target.

        Returns:
            Pixels (B, N, C, h, w) and the mask heads' logits (B, N, h, w) of every level; in eval mode the last
            level's, which nothing but a loss looks at, are left out.
        """
        shape = pixels.shape[:2]
        mean = (memory[..., :-1] / (memory[..., -1:] + 1e-4)).flatten(0, 1)
        query, query_pe = self.query_init + self.memory_init(mean), self.query_pe + self.memory_pe(mean)
        x = pixels.flatten(0, 1)
        pixel_pe = tokens(self.pixel_pe(x))
        pixel_pe = pixel_pe + sine_grid(x.shape[-2:], x.shape[1], _SCALE, _TEMPERATURE, x.device)
        x, logits = self.pixel_init(x), []
        for block, head in zip(self.blocks, self.heads, strict=False):
            logits.append(head(x.relu())[:, 0].unflatten(0, shape))
            allowed = self._allowed(logits[-1], valid).flatten(0, 1)
            query, x = block(query, x, query_pe, pixel_pe, allowed)
        if self.training:
            logits.append(self.heads[-1](x.relu())[:, 0].unflatten(0, shape))
        return x.unflatten(0, shape), logits

    def _allowed(self, logits: Tensor, valid: Tensor | None) -> Tensor:
        """Pixels bool (B, N, Q, h w) that a query may see: the target for the first half, the rest for the second.

        A query that could see nothing sees everything.
        """
        prob = logits.sigmoid()
        shares = soft_aggregate(prob if valid is None else prob * valid[..., None, None])
        target = (shares[:, 1:] >= shares.amax(1, keepdim=True)).flatten(2)
        sides = torch.stack([target, ~target], 2)
        sides = sides | ~sides.any(-1, keepdim=True)
        return sides.repeat_interleave(len(self.query_init) // 2, 2)
