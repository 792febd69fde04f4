"""Swin Transformer without its last stage (Liu et al., arXiv 2103.14030), with the released parameter names.

Legend: B images, M windows of an image, H W tokens of a map, C channels. Windows have 7 x 7 = 49 tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.nn.layers import DropPath

WINDOW = 7  # side of a window, in tokens
_MASKED = -100.0  # logit between tokens that may not see each other, as released


class WindowAttention(nn.Module):
    """Multi-head self-attention inside windows, with a learned bias for each relative position (eq. 4).

    Args:
        width: C, of input and output.
        heads: number of heads.
    """

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * WINDOW - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        y, x = torch.meshgrid(torch.arange(WINDOW), torch.arange(WINDOW), indexing="ij")
        y, x = y.flatten(), x.flatten()
        # Offsets run from -6 to 6 along each axis; they are shifted to start at 0 and index the table row by row.
        dy, dx = (c[:, None] - c[None] + WINDOW - 1 for c in (y, x))
        self.register_buffer("relative_position_index", dy * (2 * WINDOW - 1) + dx)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attend within each window.

        Args:
            x: windows (B * M, 49, C).
            mask: float (M, 49, 49), added to the logits of each image's windows; None adds nothing.

        Returns:
            (B * M, 49, C).
        """
        count, tokens, width = x.shape
        query, key, value = self.qkv(x).view(count, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)[None]
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(count // len(mask), 1, 1, 1)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        projected: Tensor = self.proj(out.transpose(1, 2).reshape(count, tokens, width))
        return projected


class MLP(nn.Module):
    """Two linear layers with a GELU between them; the hidden layer is four times as wide.

    Args:
        width: C, of input and output.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., C)."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class SwinBlock(nn.Module):
    """Window attention and MLP, each with a pre-norm and a residual connection (eq. 3).

    Args:
        width: C, of input and output.
        heads: of the attention.
        shift: tokens that the windows are shifted by, 0 or half a window.
        drop_path: probability that a training sample skips a residual.
    """

    def __init__(self, width: int, heads: int, shift: int, drop_path: float) -> None:
        super().__init__()
        self.shift = shift
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads)
        self.mlp = MLP(width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape.

        Args:
            x: (B, H, W, C).
            mask: see ``shifted_window_mask``; used where the windows are shifted.
        """
        x = x + self.drop_path(self._attend(self.norm1(x), mask))
        residual: Tensor = self.drop_path(self.mlp(self.norm2(x)))
        return x + residual

    def _attend(self, x: Tensor, mask: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, -width % WINDOW, 0, -height % WINDOW))
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        windows = self.attn(partition_windows(x), mask if self.shift else None)
        x = windows.view(len(x), x.shape[1] // WINDOW, x.shape[2] // WINDOW, WINDOW, WINDOW, -1)
        x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # windows back to a map
        if self.shift:
            x = x.roll((self.shift, self.shift), (1, 2))
        return x[:, :height, :width]


class PatchMerging(nn.Module):
    """Downsampling by two: each 2 x 2 neighbourhood becomes one token of twice the width.

    Args:
        width: C of the input.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, ceil(H / 2), ceil(W / 2), 2 C)."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        parts = [x[:, dy::2, dx::2] for dx in (0, 1) for dy in (0, 1)]
        out: Tensor = self.reduction(self.norm(torch.cat(parts, -1)))
        return out


class SwinStage(nn.Module):
    """Blocks at one resolution, every other one with shifted windows.

    Args:
        width: C, of input and output.
        heads: of each block.
        drop_paths: rate of stochastic depth of each block.
        downsample: whether the stage has ``downsample``, which the caller applies to the output.
    """

    def __init__(self, width: int, heads: int, drop_paths: Sequence[float], downsample: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(width, heads, WINDOW // 2 * (i % 2), rate) for i, rate in enumerate(drop_paths)
        )
        self.downsample = PatchMerging(width) if downsample else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape."""
        mask = shifted_window_mask(x.shape[1], x.shape[2], x.device)
        for block in self.blocks:
            x = block(x, mask)
        return x


class PatchEmbedding(nn.Module):
    """Linear embedding of patches of 4 x 4 pixels.

    Args:
        width: C of the tokens.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, 4, 4)
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, ceil(H / 4), ceil(W / 4), C)."""
        image = F.pad(image, (0, -image.shape[3] % 4, 0, -image.shape[2] % 4))
        out: Tensor = self.norm(self.proj(image).permute(0, 2, 3, 1))
        return out


class SwinTransformer(nn.Module):
    """The first three stages; the defaults are those of Swin-B.

    Args:
        width: C of the first stage; each further one has twice as many channels.
        depths: blocks of each stage.
        heads: attention heads of each stage.
        drop_path: rate of stochastic depth of the last block of the classification network, which has a fourth stage of
            two blocks; it rises linearly from 0.

    Attributes:
        widths: channels of the returned maps.
    """

    def __init__(
        self,
        width: int = 128,
        depths: tuple[int, int, int] = (2, 2, 18),
        heads: tuple[int, int, int] = (4, 8, 16),
        drop_path: float = 0.3,
    ) -> None:
        super().__init__()
        self.widths: tuple[int, ...] = (width, 2 * width, 4 * width)
        self.patch_embed = PatchEmbedding(width)
        rates = torch.linspace(0, drop_path, sum(depths) + 2).tolist()
        self.layers = nn.ModuleList()
        for i, (depth, count) in enumerate(zip(depths, heads, strict=True)):
            first = sum(depths[:i])
            self.layers.append(SwinStage(width << i, count, rates[first : first + depth], downsample=i < 2))
            self.add_module(f"norm{i}", nn.LayerNorm(width << i))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the normalised maps (B, widths[i], H / s, W / s) at strides s = 4, 8, 16 of an image (B, 3, H, W)."""
        x, maps = self.patch_embed(image), []
        for i, stage in enumerate(self.layers):
            x = stage(x)
            maps.append(self.get_submodule(f"norm{i}")(x).permute(0, 3, 1, 2))
            if i < 2:
                x = stage.get_submodule("downsample")(x)
        return maps


def partition_windows(x: Tensor) -> Tensor:
    """Cut a map (B, H, W, C), its sides multiples of 7, into windows (B * M, 49, C)."""
    x = x.view(len(x), x.shape[1] // WINDOW, WINDOW, x.shape[2] // WINDOW, WINDOW, -1)
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def shifted_window_mask(height: int, width: int, device: torch.device) -> Tensor:
    """Return the attention mask of shifted windows (section 3.2, "cyclic shift").

    The cyclic shift brings tokens of opposite borders into one window; such pairs are masked.

    Args:
        height: H of the map, before it is padded to whole windows.
        width: W of the map.
        device: of the mask.

    Returns:
        float (M, 49, 49), 0 or -100.
    """
    sides = []
    for side in (height, width):
        full = side + -side % WINDOW
        place = torch.arange(full, device=device)
        # Three regions along a side: untouched windows, the part of the last window that stays, the part that wrapped.
        sides.append((place >= full - WINDOW).int() + (place >= full - WINDOW // 2).int())
    region = partition_windows((3 * sides[0][:, None] + sides[1])[None, :, :, None])[..., 0]
    return torch.where(region[:, None] == region[:, :, None], 0.0, _MASKED)
