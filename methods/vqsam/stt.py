"""The spatial-temporal transformer (STT), eq. (2): self-attention over all places of all frames of a clip."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from common.errors import InputError
from common.nn.fast import attend, linear


class SpatialTemporalTransformer(nn.Module):
    """Pre-norm transformer layers on the tokens of a clip; initially the identity.

    Args:
        width: channels C.
        layers: number of layers; 0 = the identity (Table 6).
        heads: attention heads of a layer; divides ``width``.
        hidden: width of the feed-forward part; default 4 C.

    Raises:
        InputError: heads that do not divide the width.
    """

    def __init__(self, width: int, layers: int = 2, heads: int = 8, hidden: int | None = None) -> None:
        super().__init__()
        if width % heads:
            raise InputError(f"stt_heads {heads} does not divide {width}, the width of the features")
        self.layers = nn.ModuleList(Layer(width, heads, hidden or 4 * width) for _ in range(layers))

    def forward(self, frames: Tensor, position: Tensor, checkpointed: bool = False) -> Tensor:
        """Attend over space and time.

        Args:
            frames: features of clips, (B, T, C, h, w).
            position: positional encoding of a frame, (1, h w, C).
            checkpointed: recompute activations in the backward pass.

        Returns:
            (B, T, C, h, w).
        """
        if not self.layers:
            return frames
        x = frames.flatten(3).transpose(2, 3).flatten(1, 2)
        encoding = space_time_encoding(position.to(x.dtype), frames.shape[1])
        for layer in self.layers:
            if checkpointed and torch.is_grad_enabled():
                x = checkpoint(layer, x, encoding, use_reentrant=False)
            else:
                x = layer(x, encoding)
        mixed = x.unflatten(1, (frames.shape[1], -1)).transpose(2, 3)
        out: Tensor = mixed.unflatten(3, tuple(frames.shape[-2:]))
        return out


class Layer(nn.Module):
    """Pre-norm self-attention and feed-forward part; the last matrix of both starts at zero.

    Args:
        width: channels C.
        heads: of the attention.
        hidden: width of the feed-forward part.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.widen, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        for last in (self.out, self.narrow):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """Map tokens (B, n, C) to (B, n, C); the encoding (1, n, C) is added to queries and keys."""
        normed = self.norm1(x)
        positioned = normed + position
        query, key, value = (
            self._split(linear(layer, part))
            for layer, part in ((self.query, positioned), (self.key, positioned), (self.value, normed))
        )
        attended = attend(query, key, value, query.shape[-1] ** -0.5)
        x = x + linear(self.out, attended.unflatten(0, (len(x), self.heads)).transpose(1, 2).flatten(2))
        return x + linear(self.narrow, torch.relu(linear(self.widen, self.norm2(x))))

    def _split(self, x: Tensor) -> Tensor:
        """Split heads into the batch: (B, n, C) to (B heads, n, C / heads)."""
        heads: Tensor = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return heads.flatten(0, 1)


def space_time_encoding(position: Tensor, frames: int) -> Tensor:
    """Add a sine encoding of time to the positional encoding of a frame.

    Args:
        position: (1, h w, C).
        frames: T, number of frames of the clip.

    Returns:
        (1, T h w, C), frame by frame.
    """
    half = position.shape[-1] // 2
    rate = 10_000.0 ** (-torch.arange(half, device=position.device) / half)
    angle = torch.arange(frames, device=position.device)[:, None] * rate
    time = torch.cat([angle.sin(), angle.cos()], 1).to(position.dtype)
    return (time[:, None] + position).flatten(0, 1)[None]
