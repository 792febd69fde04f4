"""The spatial-semantic blocks: what a trainable CNN sees, joined with what a frozen ViT knows (equations 1 to 3).

Legend: B batch, C channels, S = 4 P + P tokens of strides 8 and 16 one after the other, P = h w tokens of stride 16.
Other adapters have those of stride 32 as well, after the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from common.errors import InputError
from common.nn.fast import linear
from methods.sslvos.cutie.queries import Attention
from methods.sslvos.encoders.deformable import DeformableAttention, centres

Size = tuple[int, int]


@dataclass(frozen=True)
class AdapterSettings:
    """Readings of equations 1 to 3; the defaults are those that the README argues for.

    Attributes:
        roles: of equation 2. ``code``: the CNN's tokens ask, the ViT's are sampled. ``paper``: as printed, the ViT's
            ask, the CNN's of both strides are sampled, and the answer is added at stride 16.
        residual: of equation 3. ``code``: ConvFFN of the normalised sum; ``paper``: of the sum and the block's input.
        points: places that a head of the deformable attention reads on a level.
        extra: further spatial blocks after the last.
        drop_path: probability that the ConvFFN of a block is left out for a frame in training.
    """

    roles: Literal["code", "paper"] = "code"
    residual: Literal["code", "paper"] = "code"
    points: int = 4
    extra: int = 2
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        if self.points < 1 or self.extra < 0 or not 0 <= self.drop_path < 1:
            raise InputError(
                f"adapter: points {self.points} is at least 1, extra {self.extra} at least 0, "
                f"drop_path {self.drop_path} a probability under 1"
            )


def convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """3 x 3, batch norm, ReLU."""
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def as_maps(x: Tensor, sizes: Sequence[Size]) -> list[Tensor]:
    """Tokens (B, S, C) of maps one after the other, as maps (B, C, h, w)."""
    parts = x.split([h * w for h, w in sizes], 1)
    return [part.transpose(1, 2).unflatten(2, size) for part, size in zip(parts, sizes, strict=True)]


class ConvStem(nn.Module):
    """The multi-scale CNN: an image to maps of C channels at strides 4, 8, 16, and 32 if asked for."""

    def __init__(self, channels: int, width: int = 64, to32: bool = False) -> None:
        super().__init__()
        first = [convolution(3, width, 2), convolution(width, width, 1), convolution(width, width, 1)]
        self.stage4 = nn.Sequential(*first, nn.MaxPool2d(3, 2, 1))
        self.stage8 = convolution(width, 2 * width, 2)
        self.stage16 = convolution(2 * width, 4 * width, 2)
        self.stage32 = convolution(4 * width, 4 * width, 2) if to32 else None
        scales = (1, 2, 4, 4) if to32 else (1, 2, 4)
        self.project = nn.ModuleList(nn.Conv2d(width * scale, channels, 1) for scale in scales)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to (B, C, H / 4, W / 4), then 8, 16 and perhaps 32."""
        maps, x = [], image
        for stage in (self.stage4, self.stage8, self.stage16, self.stage32):
            if stage is not None:
                maps.append(x := stage(x))
        return [layer(x) for layer, x in zip(self.project, maps, strict=True)]


class SemanticEmbedding(nn.Module):
    """Each place takes what it needs of two global vectors of the ViT.

    F_sem = LN(F) + softmax(q k^T / sqrt(d)) v, q from LN(F), k and v from [CLS; mean token]   (1)
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = Attention(channels, heads)

    def forward(self, x: Tensor, tokens: Tensor, cls: Tensor) -> Tensor:
        """(B, S, C), the ViT's tokens (B, P, C) and CLS (B, C) to (B, S, C)."""
        x = self.norm(x)
        known = torch.stack([cls, tokens.mean(1)], 1)
        return x + self.attention(x, known, known)


class ConvFFN(nn.Module):
    """To a quarter of the channels, a depth-wise 3 x 3 convolution on each stride's map, GELU, and back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 4
        self.fc1, self.fc2 = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.conv: nn.Module = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)

    def forward(self, x: Tensor, sizes: Sequence[Size]) -> Tensor:
        """(B, S, C), tokens of maps of ``sizes``, to the same."""
        maps = as_maps(linear(self.fc1, x), sizes)
        mixed = torch.cat([self.conv(part).flatten(2).transpose(1, 2) for part in maps], 1)
        return linear(self.fc2, nn.functional.gelu(mixed))


class SpatialBlock(nn.Module):
    """Tokens of strides 8 and 16 read the ViT's map.

    F_spa = F_sem + DeformableAttention(LN(F_sem), LN(F_vit))   (2)
    F = F_spa + ConvFFN(LN(F_spa))                              (3)
    """

    def __init__(self, channels: int, heads: int, settings: AdapterSettings) -> None:
        super().__init__()
        self.settings = settings
        self.norm, self.vit_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        levels = 1 if settings.roles == "code" else 2
        self.attention = DeformableAttention(channels, heads, levels, settings.points)
        self.ffn = ConvFFN(channels)
        self.ffn_norm = nn.LayerNorm(channels) if settings.residual == "code" else nn.Identity()

    def forward(self, x: Tensor, vit: Tensor, sizes: Sequence[Size], before: Tensor | None = None) -> Tensor:
        """F_sem (B, S, C), ViT tokens (B, P, C), sizes of the maps, F of the block before (B, S, C), None = F_sem."""
        before = x if before is None else before
        x = self.read(x, vit, sizes)
        inner = self.ffn_norm(x) if self.settings.residual == "code" else x + before
        return x + dropped(self.ffn(inner, sizes), self.settings.drop_path if self.training else 0.0)

    def read(self, x: Tensor, vit: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Equation 2."""
        own, other, coarse = self.norm(x), self.vit_norm(vit), sizes[1]
        if self.settings.roles == "code":
            places = torch.cat([centres(size, x.device) for size in sizes])
            return x + self.attention(own, places, other, [coarse])
        answer = self.attention(other, centres(coarse, x.device), own, sizes)
        fine = x.shape[1] - answer.shape[1]
        return torch.cat([x[:, :fine], x[:, fine:] + answer], 1)


def dropped(x: Tensor, rate: float) -> Tensor:
    """Drop-path: (B, S, C) with frames left out at this rate, and the others made up for it."""
    if not rate:
        return x
    return x * (torch.rand(len(x), 1, 1, device=x.device) >= rate) / (1 - rate)
