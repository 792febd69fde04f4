"""Multi-scale deformable attention (Deformable DETR, Zhu et al., arXiv 2010.04159) in plain torch.

Legend: B batch, Q queries, S tokens of all levels, L levels, C channels of all heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import InputError

Sizes = Sequence[tuple[int, int]]


def deformable_read(value: Tensor, sizes: Sizes, places: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of bilinear samples; outside of a map there are zeros.

    Args:
        value: (B, S, heads, d), the tokens of the levels one after the other.
        sizes: (h, w) of each level.
        places: (B, Q, heads, L, points, 2), x and y from 0 to 1.
        weights: (B, Q, heads, L, points).

    Returns:
        (B, Q, heads d).
    """
    batch, _, heads, _ = value.shape
    grids, shares = (2 * places - 1).transpose(1, 2).flatten(0, 1), weights.transpose(1, 2).flatten(0, 1)
    total = value.new_zeros(())
    for level, (tokens, (height, width)) in enumerate(
        zip(value.split([h * w for h, w in sizes], 1), sizes, strict=True)
    ):
        maps = tokens.permute(0, 2, 3, 1).flatten(0, 1).unflatten(-1, (height, width))
        samples = F.grid_sample(
            maps, grids[:, :, level], mode="bilinear", align_corners=False
        )  # (B heads, d, Q, points)
        total = total + (samples * shares[:, None, :, level]).sum(-1)
    return total.unflatten(0, (batch, heads)).permute(0, 3, 1, 2).flatten(2)


def centres(size: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """Centres (h w, 2) of the places of a grid, x and y from 0 to 1."""
    y, x = ((torch.arange(side, device=device) + 0.5) / side for side in size)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)


class DeformableAttention(nn.Module):
    """Each query reads a few places around its own, which it chooses itself.

    At first all heads look along rays around the reference, with equal weights.

    Args:
        channels: C, of queries, values and output.
        heads: C is divisible by it.
        levels: L.
        points: places that a head reads on a level.
    """

    def __init__(self, channels: int, heads: int, levels: int = 1, points: int = 4) -> None:
        super().__init__()
        if channels % heads:
            raise InputError(f"{channels} channels are not divisible by {heads} heads")
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(channels, heads * levels * points * 2)
        self.attention_weights = nn.Linear(channels, heads * levels * points)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        angle = torch.arange(heads) * (2 * math.pi / heads)
        ray = torch.stack([angle.cos(), angle.sin()], -1)
        ring = (ray / ray.abs().amax(-1, keepdim=True))[:, None, None] * torch.arange(1, points + 1)[:, None]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(ring.expand(-1, levels, -1, -1).flatten())
            for layer in (self.sampling_offsets, self.attention_weights):
                layer.weight.zero_()
            self.attention_weights.bias.zero_()
            for layer in (self.value_proj, self.output_proj):
                nn.init.xavier_uniform_(layer.weight)
                layer.bias.zero_()

    def forward(self, query: Tensor, reference: Tensor, value: Tensor, sizes: Sizes) -> Tensor:
        """Queries (B, Q, C) at references (Q, 2), x and y from 0 to 1, read values (B, S, C): (B, Q, C)."""
        shape = (self.heads, self.levels, self.points)
        scale = reference.new_tensor([(w, h) for h, w in sizes])[:, None]  # offsets are in places of the level
        offsets = self.sampling_offsets(query).unflatten(-1, (*shape, 2)) / scale
        weights = self.attention_weights(query).unflatten(-1, (self.heads, -1)).softmax(-1).unflatten(-1, shape[1:])
        values = self.value_proj(value).unflatten(-1, (self.heads, -1))
        places = reference[:, None, None, None] + offsets
        # places in half precision would be off by a good part of a token
        read = deformable_read(values.float(), sizes, places.float(), weights.float())
        return self.output_proj(read.to(values.dtype))
