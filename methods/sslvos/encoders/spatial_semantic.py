"""The image encoders that use a ViT: the spatial-semantic one, and the plain feature pyramid of the ablation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.sslvos.encoders.adapter import AdapterSettings, ConvStem, SemanticEmbedding, Size, SpatialBlock, as_maps
from methods.sslvos.encoders.base import FeatureEncoder
from methods.sslvos.encoders.vit import GROUPS, ViT


class TwoBranchEncoder(FeatureEncoder):
    """A CNN stem beside a ViT: subclass it and define how the two exchange what they know.

    Args:
        vit: gives tokens and CLS of four groups.
        stem: width of the CNN.
        to32: with tokens of stride 32.
    """

    multiple = 32

    def __init__(self, vit: ViT, stem: int, to32: bool = False) -> None:
        super().__init__()
        width = vit.width
        self.widths = (width, width, width)
        self.vit, self.stem = vit, ConvStem(width, stem, to32)
        self.level = nn.Parameter(torch.randn(3 if to32 else 2, width))
        self.up = nn.ConvTranspose2d(width, width, 2, 2)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(3))

    @abstractmethod
    def exchange(self, image: Tensor, x: Tensor, sizes: Sequence[Size]) -> tuple[Tensor, list[Tensor]]:
        """The stem's tokens (B, S, C) of maps of ``sizes`` to their last values, and the ViT's (B, P, C) by group."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See ``FeatureEncoder``."""
        c4, *coarser = self.stem(image)
        sizes = [(c.shape[-2], c.shape[-1]) for c in coarser]
        parts = [c.flatten(2).transpose(1, 2) + level for c, level in zip(coarser, self.level, strict=True)]
        x, taps = self.exchange(image, torch.cat(parts, 1), sizes)
        f8, f16, *_ = as_maps(x, sizes)
        maps = [f16, f8, self.up(f8) + c4]
        for index, (tap, scale) in enumerate(zip(taps[2::-1], (1, 2, 4), strict=True)):
            maps[index] = maps[index] + enlarged(tap, sizes[1], scale)
        f16, f8, f4 = (norm(part) for norm, part in zip(self.norms, maps, strict=True))
        return f16, f8, f4


class SpatialSemanticEncoder(TwoBranchEncoder):
    """Tokens of strides 8 and 16 go through a spatial-semantic block for each group of the ViT.

    Nothing goes back into the ViT.

    Args:
        vit, stem: see ``TwoBranchEncoder``.
        semantic: with equation 1; else the blocks begin with equation 2 (``+Spatial`` of Table 1).
        settings: readings of the equations.
    """

    def __init__(
        self, vit: ViT, semantic: bool = True, settings: AdapterSettings | None = None, stem: int = 64
    ) -> None:
        super().__init__(vit, stem)
        settings, width, heads = settings or AdapterSettings(), vit.width, vit.heads
        self.semantic = nn.ModuleList(SemanticEmbedding(width, heads) for _ in range(GROUPS if semantic else 0))
        self.spatial = nn.ModuleList(SpatialBlock(width, heads, settings) for _ in range(GROUPS + settings.extra))

    def exchange(self, image: Tensor, x: Tensor, sizes: Sequence[Size]) -> tuple[Tensor, list[Tensor]]:
        """See ``TwoBranchEncoder``."""
        taps = self.vit(image)
        for index, block in enumerate(self.spatial):
            tokens, cls = taps[min(index, GROUPS - 1)]
            before = x
            if index < len(self.semantic):
                x = self.semantic[index](x, tokens, cls)
            x = block(x, tokens, sizes, before)
        return x, [tokens for tokens, _ in taps]


def enlarged(tokens: Tensor, size: Size, scale: int) -> Tensor:
    """Tokens (B, h w, C) as a map (B, C, scale h, scale w)."""
    maps = tokens.transpose(1, 2).unflatten(2, size)
    return maps if scale == 1 else F.interpolate(maps, scale_factor=scale, mode="bilinear", align_corners=False)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each place of a map."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PyramidEncoder(FeatureEncoder):
    """ViTDet's simple feature pyramid (Li et al., arXiv 2203.16527) on the ViT's last map: ``+ViT`` of Table 1.

    Args:
        vit: its last group's tokens are taken.
        width: channels of every map.
    """

    multiple = 16

    def __init__(self, vit: ViT, width: int = 256) -> None:
        super().__init__()
        self.vit, self.widths, inner = vit, (width, width, width), vit.width
        half, quarter = inner // 2, inner // 4
        twice = [nn.ConvTranspose2d(inner, half, 2, 2), ChannelNorm(half), nn.GELU()]
        scales: list[tuple[list[nn.Module], int]] = [
            ([], inner),
            ([nn.ConvTranspose2d(inner, half, 2, 2)], half),
            ([*twice, nn.ConvTranspose2d(half, quarter, 2, 2)], quarter),
        ]
        self.levels = nn.ModuleList(
            nn.Sequential(
                *layers,
                nn.Conv2d(channels, width, 1, bias=False),
                ChannelNorm(width),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                ChannelNorm(width),
            )
            for layers, channels in scales
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See ``FeatureEncoder``."""
        tokens, _ = self.vit(image)[-1]
        x = tokens.transpose(1, 2).unflatten(2, (image.shape[-2] // 16, image.shape[-1] // 16)).contiguous()
        f16, f8, f4 = (level(x) for level in self.levels)
        return f16, f8, f4
