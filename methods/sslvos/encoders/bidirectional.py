"""Adapters that also write into the ViT, rows of Table 2: ViT-Adapter and ViT-CoMer.

Legend: B batch, C channels, P tokens of stride 16, S = 4 P + P + P / 4 tokens of strides 8, 16 and 32 one after the
other; X the ViT's tokens, F the CNN's, both of C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.nn.layers import DropPath
from methods.sslvos.encoders.deformable import DeformableAttention, grid_centres
from methods.sslvos.encoders.spatial_semantic import ConvFFN, Size, SpatialBlock, TwoBranchEncoder, split_maps
from methods.sslvos.encoders.vit import GROUPS, ViT
from methods.sslvos.settings import AdapterSettings

AdapterKind = Literal["vit-adapter", "vit-comer"]


class Injector(nn.Module):
    """ViT-Adapter's spatial feature injector: X + γ DeformableAttention(LN(X), LN(F)).

    γ (C,) starts at 0, so that the ViT starts as it was pretrained.

    Args:
        channels: C.
        heads: of the attention.
        settings: points of the attention.
    """

    def __init__(self, channels: int, heads: int, settings: AdapterSettings) -> None:
        super().__init__()
        self.norm, self.vit_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = DeformableAttention(channels, heads, 3, settings.points)
        self.gamma = nn.Parameter(torch.zeros(channels))

    def forward(self, vit: Tensor, x: Tensor, sizes: Sequence[Size]) -> tuple[Tensor, Tensor]:
        """Write into the ViT.

        Args:
            vit: X (B, P, C).
            x: F (B, S, C).
            sizes: (h, w) at strides 8, 16 and 32.

        Returns:
            The new X and F as it was.
        """
        read = self.attention(self.vit_norm(vit), grid_centres(sizes[1], x.device), self.norm(x), sizes)
        return vit + self.gamma * read, x


class MultiScaleFusion(nn.Module):
    """ViT-CoMer's interaction: add the ViT's map at its stride, then let all strides attend to each other.

    F' = {F_8, F_16 + X, F_32}, O = F' + DeformableAttention(LN(F')), O + ConvFFN(LN(O))

    Args:
        channels: C.
        heads: of the attention.
        settings: points of the attention, and drop-path.
    """

    def __init__(self, channels: int, heads: int, settings: AdapterSettings) -> None:
        super().__init__()
        self.norm, self.ffn_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = DeformableAttention(channels, heads, 3, settings.points)
        self.ffn = ConvFFN(channels)
        self.drop_path = DropPath(settings.drop_path)

    def forward(self, x: Tensor, vit: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Fuse F (B, S, C) with X (B, P, C): the new F (B, S, C). ``sizes`` are (h, w) at strides 8, 16 and 32."""
        stride8, stride16, stride32 = x.split([h * w for h, w in sizes], 1)
        x = torch.cat([stride8, stride16 + vit, stride32], 1)
        normed, references = self.norm(x), torch.cat([grid_centres(size, x.device) for size in sizes])
        x = x + self.attention(normed, references, normed, sizes)
        out: Tensor = x + self.drop_path(self.ffn(self.ffn_norm(x), sizes))
        return out


class SplitConv(nn.Module):
    """Depth-wise convolutions: 3 x 3 on the first half of the channels, 5 x 5 on the rest.

    Args:
        channels: C, of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.halves = channels // 2, channels - channels // 2
        small, large = self.halves
        self.small = nn.Conv2d(small, small, 3, padding=1, groups=small)
        self.large = nn.Conv2d(large, large, 5, padding=2, groups=large)

    def forward(self, x: Tensor) -> Tensor:
        """Filter a map (B, C, h, w)."""
        small, large = x.split(self.halves, 1)
        return torch.cat([self.small(small), self.large(large)], 1)


class FusedInjector(nn.Module):
    """ViT-CoMer's way into the ViT: F' = F + MRFP(F), and X + γ times the sum of the fused maps at the ViT's size.

    MRFP, the multi-receptive field feature pyramid, is a ``ConvFFN`` with kernels of two sizes. γ starts at 0.

    Args:
        channels: C.
        heads: of the fusion's attention.
        settings: of the fusion.
    """

    def __init__(self, channels: int, heads: int, settings: AdapterSettings) -> None:
        super().__init__()
        self.fields = ConvFFN(channels)
        self.fields.conv = SplitConv(channels // 4)
        self.fusion = MultiScaleFusion(channels, heads, settings)
        self.gamma = nn.Parameter(torch.zeros(channels))

    def forward(self, vit: Tensor, x: Tensor, sizes: Sequence[Size]) -> tuple[Tensor, Tensor]:
        """Write into the ViT.

        Args:
            vit: X (B, P, C).
            x: F (B, S, C).
            sizes: (h, w) at strides 8, 16 and 32.

        Returns:
            The new X and F'.
        """
        x = x + self.fields(x, sizes)
        maps = split_maps(self.fusion(x, vit, sizes), sizes)
        resized = [F.interpolate(part, sizes[1], mode="bilinear", align_corners=False) for part in maps]
        return vit + self.gamma * torch.stack(resized).sum(0).flatten(2).transpose(1, 2), x


class BidirectionalEncoder(TwoBranchEncoder):
    """CNN and ViT change each other: the ViT before each of its groups, the CNN after it and again at the end.

    ``vit-adapter`` is Chen et al., ICLR 2023, arXiv 2205.08534; its extractor is the block of equations 2 and 3.
    ``vit-comer`` is Xia et al., CVPR 2024, arXiv 2403.07392. A frozen ViT receives the CNN's features too; it lets
    gradients through and is not trained.

    Args:
        vit: see ``TwoBranchEncoder``.
        kind: which adapter.
        settings: points, further blocks after the last group, and drop-path.
        stem: see ``TwoBranchEncoder``.
    """

    def __init__(self, vit: ViT, kind: AdapterKind, settings: AdapterSettings | None = None, stem: int = 64) -> None:
        super().__init__(vit, stem, to32=True)
        settings = settings or AdapterSettings()
        enter, leave = {"vit-adapter": (Injector, SpatialBlock), "vit-comer": (FusedInjector, MultiScaleFusion)}[kind]
        options = (vit.width, vit.heads, settings)
        self.enter = nn.ModuleList(enter(*options) for _ in range(GROUPS))
        self.leave = nn.ModuleList(leave(*options) for _ in range(GROUPS + settings.extra))

    def exchange(self, image: Tensor, x: Tensor, sizes: Sequence[Size]) -> tuple[Tensor, list[Tensor]]:
        """See ``TwoBranchEncoder``."""
        vit, groups = self.vit.embed(image), []  # vit: CLS first
        for index, enter in enumerate(self.enter):
            tokens, x = enter(vit[:, 1:], x, sizes)
            vit = self.vit.run(torch.cat([vit[:, :1], tokens], 1), index)
            groups.append(vit[:, 1:])
            x = self.leave[index](x, groups[-1], sizes)
        for block in self.leave[GROUPS:]:
            x = block(x, groups[-1], sizes)
        return x, groups
