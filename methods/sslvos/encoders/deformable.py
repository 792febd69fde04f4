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
from common.nn.fast import linear

Sizes = Sequence[tuple[int, int]]


def deformable_read(value: Tensor, sizes: Sizes, places: Tensor, weights: Tensor) -> Tensor:
    """Sum bilinear samples of several maps by weight; outside of a map there are zeros.

    Args:
        value: (B, S, heads, d), the tokens of the levels one after the other.
        sizes: (h, w) of each level.
        places: sampling places (B, Q, heads, L, points, 2), x and y from 0 to 1 over each map.
        weights: (B, Q, heads, L, points).

    Returns:
        (B, Q, heads d).
    """
    batch, total, heads, channels = value.shape
    rows, shares, start = [], [], 0
    for level, (height, width) in enumerate(sizes):
        x, y = (places[:, :, :, level] * places.new_tensor((width, height)) - 0.5).unbind(-1)
        for right, below in ((0, 0), (1, 0), (0, 1), (1, 1)):
            column, line = x.floor() + right, y.floor() + below
            inside = (column >= 0) & (column < width) & (line >= 0) & (line < height)
            shares.append(weights[:, :, :, level] * (1 - (x - column).abs()) * (1 - (y - line).abs()) * inside)
            # a place that is not finite gets index 0, a valid row; its weight is not finite, so that the fault shows
            rows.append(start + torch.where(inside, line * width + column, 0.0))
        start += height * width
    # a bag of weighted tokens for each head of a query: on a CPU several times as fast as grid_sample
    first = torch.arange(batch, device=value.device)[:, None, None, None] * total
    index = (torch.cat(rows, -1).long() + first) * heads + torch.arange(heads, device=value.device)[:, None]
    bags, share = index.flatten(0, 2), torch.cat(shares, -1).flatten(0, 2)
    read = F.embedding_bag(bags, value.reshape(-1, channels), per_sample_weights=share, mode="sum")
    return read.view(batch, -1, heads * channels)


def grid_centres(size: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """Return the centres (h w, 2) of a grid's cells in row-major order, x and y from 0 to 1."""
    y, x = ((torch.arange(side, device=device) + 0.5) / side for side in size)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)


class DeformableAttention(nn.Module):
    """Multi-scale deformable attention: each query samples a few places around its reference point.

    The query predicts the offsets of these places and their weights. Initially each head samples along a ray of its
    own around the reference, with equal weights.

    Args:
        channels: C, of queries, values and output.
        heads: divides ``channels``.
        levels: L, number of maps.
        points: places that a head samples on a level.

    Raises:
        InputError: heads that do not divide the channels.
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
        """Sample values around each query's reference point.

        Args:
            query: (B, Q, C).
            reference: (Q, 2), x and y from 0 to 1.
            value: (B, S, C), the tokens of the levels one after the other.
            sizes: (h, w) of each level.

        Returns:
            (B, Q, C).
        """
        shape = (self.heads, self.levels, self.points)
        scale = reference.new_tensor([(w, h) for h, w in sizes])[:, None]  # offsets are in cells of the level
        offsets = linear(self.sampling_offsets, query).unflatten(-1, (*shape, 2)) / scale
        weights = linear(self.attention_weights, query).unflatten(-1, (self.heads, -1)).softmax(-1)
        values = linear(self.value_proj, value).unflatten(-1, (self.heads, -1))
        places = reference[:, None, None, None] + offsets
        # places in half precision would be off by a good part of a token
        read = deformable_read(values.float(), sizes, places.float(), weights.float().unflatten(-1, shape[1:]))
        return linear(self.output_proj, read.to(values.dtype))
