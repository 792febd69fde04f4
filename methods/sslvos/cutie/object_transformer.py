"""The object transformer and the object memory that its queries start from (Cutie, sections 3.2 and 3.4).

The queries read the pixels by masked attention (Cutie) or by the discriminative query (SSLVOS, equations 4 to 6).

Legend: B batch, N targets, Q queries a target, P pixels of a map, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.nn.aggregate import soft_aggregate
from common.nn.attention import MultiHeadAttention
from common.nn.layers import ChannelAttentionBlock
from common.nn.position import sine_grid
from methods.sslvos.cutie.pixel_modules import flatten_maps
from methods.sslvos.settings import CoreSettings, DiscriminativeSettings

_SCALE, _TEMPERATURE = 32.0, 128.0  # of the sine encoding of pixel positions, as in Cutie
_EPSILON = 1e-4  # keeps the mean of a query with no area finite, as in Cutie


class ObjectSummary(nn.Module):
    """Pool the value map of a target into Q vectors: sums and areas, which can be added up over memory frames.

    Args:
        settings: widths of the core.
    """

    def __init__(self, settings: CoreSettings) -> None:
        super().__init__()
        width, self.queries = settings.embed, settings.queries
        self.input = nn.Linear(settings.value, width)
        self.feature = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.weight = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, self.queries))

    def forward(self, masks: Tensor, value: Tensor) -> Tensor:
        """Pool the values of one memory frame; the first half of the queries inside the mask, the second outside.

        Args:
            masks: float (B, N, H, W) in [0, 1].
            value: (B, N, value, h, w).

        Returns:
            float32 (B, N, Q, C + 1), the area in the last channel.
        """
        size = value.shape[-2:]
        inside = F.interpolate(masks.float(), size, mode="area").flatten(2)[..., None]
        x = self.input(flatten_maps(value))
        x = x + sine_grid(size, x.shape[-1], _SCALE, _TEMPERATURE, x.device)
        with torch.autocast(x.device.type, enabled=False):  # sums over many frames overflow half precision
            x = x.float()
            region = torch.cat([inside, 1 - inside], -1).repeat_interleave(self.queries // 2, -1)
            weight = (self.weight(x).sigmoid() * region).transpose(-1, -2)  # (B, N, Q, P)
            return torch.cat([weight @ self.feature(x), weight.sum(-1, keepdim=True)], -1)


class MaskedRead(nn.Module):
    """Masked cross-attention of Cutie: Q' + attention of Q' = LN(Q) to the pixels that each query may see.

    Args:
        channels: C, of queries and pixels.
        heads: of the attention.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = MultiHeadAttention(channels, heads)

    def forward(self, query: Tensor, pixels: Tensor, query_pe: Tensor, pixel_pe: Tensor, allowed: Tensor) -> Tensor:
        """Update the queries from the pixels.

        Args:
            query: (B, Q, C).
            pixels: (B, P, C).
            query_pe: positional encoding of the queries, broadcast to (B, Q, C).
            pixel_pe: positional encoding of the pixels, broadcast to (B, P, C).
            allowed: bool (B, Q, P), the pixels that a query may see, at least one of each query's.

        Returns:
            Queries (B, Q, C).
        """
        query = self.norm(query)
        out: Tensor = query + self.attention(query + query_pe, pixels + pixel_pe, pixels, allowed[:, None])
        return out


class DiscriminativeRead(nn.Module):
    """The discriminative query: each query picks the most similar pixel that it may see, and is updated by it.

    Q_s = F[argmax (F Qᵀ where allowed)]   (4)
    A = W_p (Q * Q_s)                      (5)
    Q_out = W_out (α A / |A| + Q_s) + Q'   (6)

    Gradients reach the features of the picked pixels; the choice itself has none.

    Args:
        channels: C, of queries and pixels.
        settings: variants of the equations.
    """

    def __init__(self, channels: int, settings: DiscriminativeSettings) -> None:
        super().__init__()
        self.settings = settings
        self.norm = nn.LayerNorm(channels)
        self.proj = nn.Linear(channels, channels) if settings.project else nn.Identity()
        self.final = nn.Linear(channels, channels)
        self.alpha = nn.Parameter(torch.ones(1, 1, channels))

    def forward(self, query: Tensor, pixels: Tensor, query_pe: Tensor, pixel_pe: Tensor, allowed: Tensor) -> Tensor:
        """Update the queries from the pixels; shapes as in ``MaskedRead.forward``."""
        query = self.norm(query)
        key, encoded = F.normalize(query + query_pe, dim=-1), F.normalize(pixels + pixel_pe, dim=-1)
        salient = self._most_similar(key, encoded, pixels, allowed)
        update = self.proj(key * salient)
        update = F.normalize(update, dim=-1 if self.settings.norm == "channels" else 1)
        out: Tensor = query + self.final(self.alpha * update + salient)
        return out

    def _most_similar(self, key: Tensor, encoded: Tensor, pixels: Tensor, allowed: Tensor) -> Tensor:
        """Q_s (B, Q, C) of equation 4: for each head, the feature of the pixel of largest cosine."""
        k, x = self._heads(key), self._heads(encoded)
        # -inf rather than 0: where all similarities are negative, a pixel outside must not win
        similarity = (k @ x.transpose(-1, -2)).masked_fill(~allowed[:, None], float("-inf"))
        index = similarity.argmax(-1)
        source = self._heads(pixels) if self.settings.gathered == "raw" else x
        picked = source.gather(2, index[..., None].expand(-1, -1, -1, source.shape[-1]))
        return picked.transpose(1, 2).flatten(2)

    def _heads(self, x: Tensor) -> Tensor:
        """(B, L, C) to (B, heads, L, C / heads)."""
        heads: Tensor = x.unflatten(-1, (self.settings.heads, -1))
        return heads.transpose(1, 2)


class QueryMLP(nn.Module):
    """Pre-norm residual MLP on queries.

    Args:
        channels: C, of the queries.
        hidden: width of the hidden layer.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)

    def forward(self, query: Tensor) -> Tensor:
        """Map queries (B, Q, C) to (B, Q, C)."""
        out: Tensor = query + self.linear2(self.linear1(self.norm(query)).relu())
        return out


class Block(nn.Module):
    """A block of the object transformer: queries read pixels, queries attend to each other, pixels read queries.

    Args:
        settings: widths of the core, and which read the queries use.
    """

    def __init__(self, settings: CoreSettings) -> None:
        super().__init__()
        width, heads = settings.embed, settings.heads
        discriminative = settings.discriminative
        self.read = DiscriminativeRead(width, discriminative) if discriminative else MaskedRead(width, heads)
        self.norm = nn.LayerNorm(width)
        self.exchange = MultiHeadAttention(width, heads)
        self.mlp = QueryMLP(width, settings.feedforward)
        self.write = MultiHeadAttention(width, heads)
        self.pixel_mlp = ChannelAttentionBlock(width)

    def forward(
        self, query: Tensor, pixels: Tensor, query_pe: Tensor, pixel_pe: Tensor, allowed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Update queries and pixels; the targets of a batch are rows of one axis.

        Args:
            query: (B N, Q, C).
            pixels: (B N, C, h, w).
            query_pe: (B N, Q, C).
            pixel_pe: (B N, h w, C).
            allowed: bool (B N, Q, h w), the pixels that a query may see.

        Returns:
            Queries (B N, Q, C) and pixels (B N, C, h, w).
        """
        flat = flatten_maps(pixels)
        query = self.norm(self.read(query, flat, query_pe, pixel_pe, allowed))
        encoded = query + query_pe
        query = self.mlp(query + self.exchange(encoded, encoded, query))
        flat = flat + self.write(flat + pixel_pe, query + query_pe, query)
        return query, self.pixel_mlp(flat.transpose(1, 2).unflatten(2, pixels.shape[-2:]).contiguous())


class ObjectTransformer(nn.Module):
    """Restructure the pixels of a target by queries that start from its object memory.

    Args:
        settings: widths and counts of the core.
    """

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
        """Pass the pixels of all targets through all blocks.

        Args:
            pixels: (B, N, C, h, w).
            memory: object memory (B, N, Q, C + 1), sums and areas.
            valid: (B, N), 0 for the padded targets of a training batch; None = all are real.

        Returns:
            Pixels (B, N, C, h, w), and mask logits (B, N, h, w) before each block and, in training, after the last
            one, which serves an auxiliary loss alone.
        """
        shape = pixels.shape[:2]
        mean = (memory[..., :-1] / (memory[..., -1:] + _EPSILON)).flatten(0, 1)
        query, query_pe = self.query_init + self.memory_init(mean), self.query_pe + self.memory_pe(mean)
        x = pixels.flatten(0, 1)
        pixel_pe = flatten_maps(self.pixel_pe(x))
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
        """Compute the pixels that a query may see: the target for the first half of queries, else the rest.

        A pixel belongs to the target if its share there is the largest of all targets and the background. A query that
        could see nothing sees everything, since attention over no pixel is undefined.

        Args:
            logits: (B, N, h, w) of this block's mask head.
            valid: (B, N) or None.

        Returns:
            bool (B, N, Q, h w).
        """
        prob = logits.sigmoid()
        shares = soft_aggregate(prob if valid is None else prob * valid[..., None, None])
        target = (shares[:, 1:] >= shares.amax(1, keepdim=True)).flatten(2)
        regions = torch.stack([target, ~target], 2)
        regions = regions | ~regions.any(-1, keepdim=True)
        return regions.repeat_interleave(len(self.query_init) // 2, 2)
