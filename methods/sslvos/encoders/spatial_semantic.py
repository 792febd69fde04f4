"""The image encoders that use a ViT: the spatial-semantic encoder (equations 1 to 3) and a plain feature pyramid.

Legend: B batch, C channels, P = h w tokens of stride 16, S = 4 P + P tokens of strides 8 and 16 one after the other.
Other adapters append the tokens of stride 32.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.nn.attention import MultiHeadAttention
from common.nn.fast import linear
from common.nn.layers import DropPath
from methods.sslvos.encoders.base import FeatureEncoder
from methods.sslvos.encoders.deformable import DeformableAttention, grid_centres
from methods.sslvos.encoders.vit import GROUPS, ViT
from methods.sslvos.settings import AdapterSettings

Size = tuple[int, int]


def conv_norm_relu(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Build a 3 x 3 convolution with batch norm and ReLU."""
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def split_maps(x: Tensor, sizes: Sequence[Size]) -> list[Tensor]:
    """Split tokens of several maps, one after the other, into maps.

    Args:
        x: (B, S, C).
        sizes: (h, w) of each map.

    Returns:
        Maps (B, C, h, w).
    """
    parts = x.split([h * w for h, w in sizes], 1)
    return [part.transpose(1, 2).unflatten(2, size) for part, size in zip(parts, sizes, strict=True)]


def upsample_tokens(tokens: Tensor, size: Size, scale: int) -> Tensor:
    """Lay out tokens (B, h w, C) as a map and upsample it: (B, C, scale h, scale w)."""
    maps = tokens.transpose(1, 2).unflatten(2, size)
    return maps if scale == 1 else F.interpolate(maps, scale_factor=scale, mode="bilinear", align_corners=False)


class ConvStem(nn.Module):
    """The multi-scale CNN: an image to maps of C channels at strides 4, 8, 16 and, with ``to32``, 32.

    Args:
        channels: C.
        width: channels of the first stage.
        to32: add a stage of stride 32.
    """

    def __init__(self, channels: int, width: int = 64, to32: bool = False) -> None:
        super().__init__()
        first = [conv_norm_relu(3, width, 2), conv_norm_relu(width, width, 1), conv_norm_relu(width, width, 1)]
        self.stage4 = nn.Sequential(*first, nn.MaxPool2d(3, 2, 1))
        self.stage8 = conv_norm_relu(width, 2 * width, 2)
        self.stage16 = conv_norm_relu(2 * width, 4 * width, 2)
        self.stage32 = conv_norm_relu(4 * width, 4 * width, 2) if to32 else None
        scales = (1, 2, 4, 4) if to32 else (1, 2, 4)
        self.project = nn.ModuleList(nn.Conv2d(width * scale, channels, 1) for scale in scales)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map an image (B, 3, H, W) to (B, C, H / stride, W / stride), finest first."""
        maps, x = [], image
        for stage in (self.stage4, self.stage8, self.stage16, self.stage32):
            if stage is not None:
                maps.append(x := stage(x))
        return [layer(x) for layer, x in zip(self.project, maps, strict=True)]


class SemanticEmbedding(nn.Module):
    """Attention of every CNN token to two global vectors of the ViT: its CLS token and its mean token.

    F_sem = LN(F) + softmax(q k^T / sqrt(d)) v, q from LN(F), k and v from [CLS; mean token]   (1)

    Args:
        channels: C, of the CNN and the ViT.
        heads: of the attention.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = MultiHeadAttention(channels, heads)

    def forward(self, x: Tensor, tokens: Tensor, cls: Tensor) -> Tensor:
        """Embed semantics.

        Args:
            x: the CNN's tokens F (B, S, C).
            tokens: the ViT's tokens (B, P, C).
            cls: the ViT's CLS token (B, C).

        Returns:
            F_sem (B, S, C).
        """
        x = self.norm(x)
        semantics = torch.stack([cls, tokens.mean(1)], 1)
        out: Tensor = x + self.attention(x, semantics, semantics)
        return out


class ConvFFN(nn.Module):
    """Feed-forward network with a depth-wise 3 x 3 convolution on each stride's map between its two layers.

    Args:
        channels: C; the hidden layer has C / 4.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 4
        self.fc1, self.fc2 = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.conv: nn.Module = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)

    def forward(self, x: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Map the tokens (B, S, C) of maps of ``sizes`` to (B, S, C)."""
        maps = split_maps(linear(self.fc1, x), sizes)
        mixed = torch.cat([self.conv(part).flatten(2).transpose(1, 2) for part in maps], 1)
        return linear(self.fc2, F.gelu(mixed))


class SpatialBlock(nn.Module):
    """CNN tokens of strides 8 and 16 sample the ViT's map by deformable attention.

    F_spa = F_sem + DeformableAttention(LN(F_sem), LN(F_vit))   (2)
    F = F_spa + ConvFFN(LN(F_spa))                              (3)

    Args:
        channels: C, of the CNN and the ViT.
        heads: of the attention.
        settings: variants of the equations.
    """

    def __init__(self, channels: int, heads: int, settings: AdapterSettings) -> None:
        super().__init__()
        self.settings = settings
        self.norm, self.vit_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        levels = 1 if settings.roles == "code" else 2
        self.attention = DeformableAttention(channels, heads, levels, settings.points)
        self.ffn = ConvFFN(channels)
        self.ffn_norm = nn.LayerNorm(channels) if settings.residual == "code" else nn.Identity()
        self.drop_path = DropPath(settings.drop_path)

    def forward(self, x: Tensor, vit: Tensor, sizes: Sequence[Size], block_input: Tensor | None = None) -> Tensor:
        """Apply equations 2 and 3.

        Args:
            x: F_sem (B, S, C).
            vit: the ViT's tokens (B, P, C).
            sizes: (h, w) at each stride of ``x``.
            block_input: F (B, S, C) before equation 1, which ``residual="paper"`` adds in equation 3; None = ``x``.

        Returns:
            F (B, S, C).
        """
        block_input = x if block_input is None else block_input
        x = self.read(x, vit, sizes)
        inner = self.ffn_norm(x) if self.settings.residual == "code" else x + block_input
        out: Tensor = x + self.drop_path(self.ffn(inner, sizes))
        return out

    def read(self, x: Tensor, vit: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Apply equation 2: F_sem (B, S, C) and the ViT's tokens (B, P, C) to F_spa (B, S, C)."""
        cnn_tokens, vit_tokens, stride16 = self.norm(x), self.vit_norm(vit), sizes[1]
        if self.settings.roles == "code":
            references = torch.cat([grid_centres(size, x.device) for size in sizes])
            sampled: Tensor = x + self.attention(cnn_tokens, references, vit_tokens, [stride16])
            return sampled
        # as printed, the ViT's tokens are the queries: the result has P tokens and is added at stride 16 alone
        answer = self.attention(vit_tokens, grid_centres(stride16, x.device), cnn_tokens, sizes)
        stride8_tokens = x.shape[1] - answer.shape[1]
        return torch.cat([x[:, :stride8_tokens], x[:, stride8_tokens:] + answer], 1)


class TwoBranchEncoder(FeatureEncoder):
    """A CNN stem and a ViT in parallel: subclass it and define how the two branches exchange features.

    Args:
        vit: the ViT, whose tokens are taken after each of its four groups of blocks.
        stem: channels of the first stage of the CNN.
        to32: the CNN has tokens of stride 32 too.
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
        """Exchange features between the branches.

        Args:
            image: (B, 3, H, W), normalised.
            x: the stem's tokens (B, S, C).
            sizes: (h, w) at each stride of ``x``.

        Returns:
            The CNN's tokens (B, S, C), and the ViT's tokens (B, P, C) after each group.
        """

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See ``FeatureEncoder``."""
        c4, *coarser = self.stem(image)
        sizes = [(c.shape[-2], c.shape[-1]) for c in coarser]
        parts = [c.flatten(2).transpose(1, 2) + level for c, level in zip(coarser, self.level, strict=True)]
        x, group_tokens = self.exchange(image, torch.cat(parts, 1), sizes)
        f8, f16, *_ = split_maps(x, sizes)
        maps = [f16, f8, self.up(f8) + c4]
        # the third group's tokens join the map of stride 16, the second's that of 8, the first's that of 4
        for index, (tokens, scale) in enumerate(zip(group_tokens[2::-1], (1, 2, 4), strict=True)):
            maps[index] = maps[index] + upsample_tokens(tokens, sizes[1], scale)
        f16, f8, f4 = (norm(part) for norm, part in zip(self.norms, maps, strict=True))
        return f16, f8, f4


class SpatialSemanticEncoder(TwoBranchEncoder):
    """The encoder of SSLVOS: a spatial-semantic block for each group of the ViT; nothing is written into the ViT.

    Args:
        vit: see ``TwoBranchEncoder``.
        semantic: apply equation 1; without it the blocks are equations 2 and 3 alone (``+Spatial`` of Table 1).
        settings: variants of the equations.
        stem: see ``TwoBranchEncoder``.
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
        groups = self.vit(image)
        for index, block in enumerate(self.spatial):
            tokens, cls = groups[min(index, GROUPS - 1)]  # further blocks read the last group again
            block_input = x
            if index < len(self.semantic):
                x = self.semantic[index](x, tokens, cls)
            x = block(x, tokens, sizes, block_input)
        return x, [tokens for tokens, _ in groups]


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each place of a map."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, h, w)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PyramidEncoder(FeatureEncoder):
    """ViTDet's simple feature pyramid (Li et al., arXiv 2203.16527) on the ViT's last map: ``+ViT`` of Table 1.

    Args:
        vit: the ViT, whose last group's tokens are taken.
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
