"""Swin-B without its last stage (Liu et al., arXiv 2103.14030), with the released names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.nn.drop_path import DropPath
from methods.hqsmem.deaot.encoders.base import Encoder

WINDOW = 7


class WindowAttention(nn.Module):
    """Attention inside windows with a learned bias for each relative position."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * WINDOW - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        y, x = torch.meshgrid(torch.arange(WINDOW), torch.arange(WINDOW), indexing="ij")
        y, x = y.flatten(), x.flatten()
        dy, dx = (c[:, None] - c[None] + WINDOW - 1 for c in (y, x))
        self.register_buffer("relative_position_index", dy * (2 * WINDOW - 1) + dx)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Windows (B * M, 49, C), and what each of the M may not see: float (M, 49, 49) or None."""
        count, tokens, width = x.shape
        query, key, value = self.qkv(x).view(count, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)[None]
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(count // len(mask), 1, 1, 1)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        return self.proj(out.transpose(1, 2).reshape(count, tokens, width))


class MLP(nn.Module):
    """Two layers, four times as wide between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C)."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention in windows, shifted by half a window in every other block, then the MLP."""

    def __init__(self, width: int, heads: int, shift: int, drop_path: float) -> None:
        super().__init__()
        self.shift = shift
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads)
        self.mlp = MLP(width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, H, W, C); the mask is of shifted windows."""
        x = x + self.drop_path(self._attend(self.norm1(x), mask))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor, mask: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, -width % WINDOW, 0, -height % WINDOW))
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        windows = self.attn(partition(x), mask if self.shift else None)
        x = windows.view(len(x), x.shape[1] // WINDOW, x.shape[2] // WINDOW, WINDOW, WINDOW, -1)
        x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        if self.shift:
            x = x.roll((self.shift, self.shift), (1, 2))
        return x[:, :height, :width]


class Merge(nn.Module):
    """Four neighbours to one token of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, ceil(H / 2), ceil(W / 2), 2 C)."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        parts = [x[:, dy::2, dx::2] for dx in (0, 1) for dy in (0, 1)]
        return self.reduction(self.norm(torch.cat(parts, -1)))


class Stage(nn.Module):
    """Blocks at one resolution; ``downsample`` leads to the next."""

    def __init__(self, width: int, heads: int, drop_paths: list[float], last: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(width, heads, WINDOW // 2 * (i % 2), drop) for i, drop in enumerate(drop_paths)
        )
        self.downsample = None if last else Merge(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C)."""
        mask = shifted_mask(x.shape[1], x.shape[2], x.device)
        for block in self.blocks:
            x = block(x, mask)
        return x


class PatchEmbedding(nn.Module):
    """Patches of 4x4 pixels to tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, 4, 4)
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, ceil(H / 4), ceil(W / 4), C)."""
        image = F.pad(image, (0, -image.shape[3] % 4, 0, -image.shape[2] % 4))
        return self.norm(self.proj(image).permute(0, 2, 3, 1))


class SwinEncoder(Encoder):
    """The trunk of SwinB-DeAOT-L: window 7, pretrained on ImageNet-22k.

    Args:
        width: of the first stage.
        depths: blocks of the stages.
        heads: of the stages.
        drop_path: of the last block of the classification network, which has two more; it grows from 0.
    """

    aligned = False

    def __init__(
        self,
        width: int = 128,
        depths: tuple[int, int, int] = (2, 2, 18),
        heads: tuple[int, int, int] = (4, 8, 16),
        drop_path: float = 0.3,
    ) -> None:
        super().__init__()
        self.widths = (width, 2 * width, 4 * width, 4 * width)
        self.patch_embed = PatchEmbedding(width)
        rates = torch.linspace(0, drop_path, sum(depths) + 2).tolist()
        self.layers = nn.ModuleList()
        for i, (depth, count) in enumerate(zip(depths, heads, strict=True)):
            own = [rates.pop(0) for _ in range(depth)]
            self.layers.append(Stage(width << i, count, own if i else [0.0] * depth, last=i == 2))
            self.add_module(f"norm{i}", nn.LayerNorm(width << i))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.freeze(self.patch_embed, self.layers.get_submodule("0.blocks"))

    def forward(self, image: Tensor) -> list[Tensor]:
        """See ``Encoder``."""
        x, maps = self.patch_embed(image), []
        for i, stage in enumerate(self.layers):
            x = stage(x)
            maps.append(self.get_submodule(f"norm{i}")(x).permute(0, 3, 1, 2))
            if i < 2:
                x = stage.get_submodule("downsample")(x)
        return [*maps, maps[-1]]


def partition(x: Tensor) -> Tensor:
    """(B, H, W, C), sides multiples of 7, to windows (B * M, 49, C)."""
    x = x.view(len(x), x.shape[1] // WINDOW, WINDOW, x.shape[2] // WINDOW, WINDOW, -1)
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def shifted_mask(height: int, width: int, device: torch.device) -> Tensor:
    """-100 (as released) between tokens that only the shift brought into one window: float (M, 49, 49)."""
    sides = []
    for side in (height, width):
        full = side + -side % WINDOW
        place = torch.arange(full, device=device)
        sides.append((place >= full - WINDOW).int() + (place >= full - WINDOW // 2).int())
    region = partition((3 * sides[0][:, None] + sides[1])[None, :, :, None])[..., 0]
    return torch.where(region[:, None] == region[:, :, None], 0.0, -100.0)
