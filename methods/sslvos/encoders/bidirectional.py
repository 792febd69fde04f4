"""Adapters that also write into the ViT, rows of Table 2: ViT-Adapter and ViT-CoMer.

Legend: as in ``adapter``, with S = 4 P + P + P / 4 tokens of strides 8, 16 and 32; X the ViT's tokens, F the CNN's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.sslvos.encoders.adapter import AdapterSettings, ConvFFN, Size, SpatialBlock, as_maps, dropped
from methods.sslvos.encoders.deformable import DeformableAttention, centres
from methods.sslvos.encoders.spatial_semantic import TwoBranchEncoder
from methods.sslvos.encoders.vit import GROUPS, ViT

AdapterKind = Literal["vit-adapter", "vit-comer"]


class Injector(nn.Module):
    """ViT-Adapter's spatial feature injector: X + γ DeformableAttention(LN(X), LN(F)).

    γ (C,) is 0 at first: the ViT starts as it was pretrained.
    """

    def __init__(self, channels: int, heads: int, settings: AdapterSettings) -> None:
        super().__init__()
        self.norm, self.vit_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = DeformableAttention(channels, heads, 3, settings.points)
        self.gamma = nn.Parameter(torch.zeros(channels))

    def forward(self, vit: Tensor, x: Tensor, sizes: Sequence[Size]) -> tuple[Tensor, Tensor]:
        """X (B, P, C) and F (B, S, C) to the new X and the same F."""
        read = self.attention(self.vit_norm(vit), centres(sizes[1], x.device), self.norm(x), sizes)
        return vit + self.gamma * read, x


class MultiScaleFusion(nn.Module):
    """ViT-CoMer's interaction: the ViT's map is added at its stride, then all strides read each other.

    F' = {F_8, F_16 + X, F_32}, O = F' + DeformableAttention(LN(F')), O + ConvFFN(LN(O))
    """

    def __init__(self, channels: int, heads: int, settings: AdapterSettings) -> None:
        super().__init__()
        self.rate = settings.drop_path
        self.norm, self.ffn_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = DeformableAttention(channels, heads, 3, settings.points)
        self.ffn = ConvFFN(channels)

    def forward(self, x: Tensor, vit: Tensor, sizes: Sequence[Size]) -> Tensor:
        """F (B, S, C) and X (B, P, C) to the new F."""
        fine, same, coarse = x.split([h * w for h, w in sizes], 1)
        x = torch.cat([fine, same + vit, coarse], 1)
        own, places = self.norm(x), torch.cat([centres(size, x.device) for size in sizes])
        x = x + self.attention(own, places, own, sizes)
        return x + dropped(self.ffn(self.ffn_norm(x), sizes), self.rate if self.training else 0.0)


class SplitConv(nn.Module):
    """Depth-wise convolutions: 3 x 3 on the first half of the channels, 5 x 5 on the rest."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.halves = channels // 2, channels - channels // 2
        small, large = self.halves
        self.small = nn.Conv2d(small, small, 3, padding=1, groups=small)
        self.large = nn.Conv2d(large, large, 5, padding=2, groups=large)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        small, large = x.split(self.halves, 1)
        return torch.cat([self.small(small), self.large(large)], 1)


class FusedInjector(nn.Module):
    """ViT-CoMer's way into the ViT: F + MRFP(F), a fusion with X, and X + γ Σ of its maps at the ViT's size.

    MRFP, the multi-receptive field feature pyramid, is a ``ConvFFN`` with kernels of two sizes. γ as in ``Injector``.
    """

    def __init__(self, channels: int, heads: int, settings: AdapterSettings) -> None:
        super().__init__()
        self.fields = ConvFFN(channels)
        self.fields.conv = SplitConv(channels // 4)
        self.fusion = MultiScaleFusion(channels, heads, settings)
        self.gamma = nn.Parameter(torch.zeros(channels))

    def forward(self, vit: Tensor, x: Tensor, sizes: Sequence[Size]) -> tuple[Tensor, Tensor]:
        """X (B, P, C) and F (B, S, C) to the new X and F + MRFP(F)."""
        x = x + self.fields(x, sizes)
        maps = as_maps(self.fusion(x, vit, sizes), sizes)
        resized = [F.interpolate(part, sizes[1], mode="bilinear", align_corners=False) for part in maps]
        return vit + self.gamma * torch.stack(resized).sum(0).flatten(2).transpose(1, 2), x


class BidirectionalEncoder(TwoBranchEncoder):
    """CNN and ViT change each other: the ViT before each of its groups, the CNN's maps after it, and at the end again.

    ``vit-adapter`` is Chen et al., ICLR 2023, arXiv 2205.08534; its extractor is the block of equations 2 and 3.
    ``vit-comer`` is Xia et al., CVPR 2024, arXiv 2403.07392.

    Args:
        vit, stem: see ``TwoBranchEncoder``. A frozen ViT is given the CNN's features all the same, and learns nothing.
        kind: the adapter.
        settings: its points, further blocks after the last group, and drop-path.
    """

    def __init__(self, vit: ViT, kind: AdapterKind, settings: AdapterSettings | None = None, stem: int = 64) -> None:
        super().__init__(vit, stem, to32=True)
        settings = settings or AdapterSettings()
        enter, leave = {"vit-adapter": (Injector, SpatialBlock), "vit-comer": (FusedInjector, MultiScaleFusion)}[kind]
        own = (vit.width, vit.heads, settings)
        self.enter = nn.ModuleList(enter(*own) for _ in range(GROUPS))
        self.leave = nn.ModuleList(leave(*own) for _ in range(GROUPS + settings.extra))

    def exchange(self, image: Tensor, x: Tensor, sizes: Sequence[Size]) -> tuple[Tensor, list[Tensor]]:
        """See ``TwoBranchEncoder``."""
        vit, taps = self.vit.embed(image), []
        for group, enter in enumerate(self.enter):
            tokens, x = enter(vit[:, 1:], x, sizes)
            vit = self.vit.run(torch.cat([vit[:, :1], tokens], 1), group)
            taps.append(vit[:, 1:])
            x = self.leave[group](x, taps[-1], sizes)
        for block in self.leave[GROUPS:]:
            x = block(x, taps[-1], sizes)
        return x, taps
