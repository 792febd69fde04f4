"""Text into the space of the image: projection and Lang2Img."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods.univs.network.attention import CrossAttention
from methods.univs.network.scene import Scene
from methods.univs.settings import UniVSSettings


class LanguageToImage(nn.Module):
    """LayerNorm, linear (W_t2v), and one cross-attention from text tokens to all three scales of a frame (Lang2Img)."""

    def __init__(self, settings: UniVSSettings) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(settings.text.outputs)
        self.projection = nn.Linear(settings.text.outputs, settings.hidden)
        self.cross = CrossAttention(settings.hidden, settings.heads)

    def forward(self, text: Tensor, scene: Scene) -> Tensor:
        """Text tokens (B, N, L, D) to tokens of each frame (B, N, T, L, C)."""
        frames = scene.frame_index.shape[1]
        tokens = self.projection(self.norm(text))
        rows = tokens.flatten(1, 2).repeat_interleave(frames, 0)
        read = self.cross(rows, torch.cat(scene.sources, 2).flatten(0, 1))
        return read.unflatten(0, (-1, frames)).unflatten(2, tokens.shape[1:3]).transpose(1, 2)
