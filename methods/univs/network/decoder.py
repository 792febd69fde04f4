"""The unified video mask decoder: learnable and prompt queries in two streams with shared weights.

Legend: B clips, T frames, Q queries (learnable ones first), N prompt queries, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.univs.network.attention import CrossAttention, FeedForward
from methods.univs.network.heads import Heads, Outputs
from methods.univs.network.proca import PromptCrossAttention
from methods.univs.network.prompts import PromptTokens
from methods.univs.network.scene import Scene
from methods.univs.network.separated import SeparatedSelfAttention
from methods.univs.settings import SelfAttention, UniVSSettings


class DecoderLayer(nn.Module):
    """ProCA for the prompt queries, then for all: masked image cross-attention, SepSA, MLP."""

    def __init__(self, settings: UniVSSettings) -> None:
        super().__init__()
        channels, heads = settings.hidden, settings.heads
        self.proca = PromptCrossAttention(channels, heads) if settings.proca else None
        self.cross = CrossAttention(channels, heads)
        self.exchange = SeparatedSelfAttention(channels, heads)
        self.mlp = FeedForward(channels, settings.feedforward)


class VideoMaskDecoder(nn.Module):
    """Queries look at one scale after another and predict after every layer.

    A query is one vector a frame; the T copies of a learnable query start alike.
    """

    def __init__(self, settings: UniVSSettings) -> None:
        super().__init__()
        self.settings = settings
        self.layers = nn.ModuleList(DecoderLayer(settings) for _ in range(settings.layers))
        self.query = nn.Parameter(torch.randn(settings.queries, settings.hidden))
        self.query_code = nn.Parameter(torch.randn(settings.queries, settings.hidden))
        self.heads = Heads(settings.hidden, settings.text.outputs)

    def forward(
        self, scene: Scene, prompts: PromptTokens | None = None, every: bool = True, paired: bool = False
    ) -> list[Outputs]:
        """Outputs before the first layer and after each; the last alone without ``every``.

        Args:
            paired: see ``Heads``; the released inference sets it for expressions.
        """
        clips, frames = scene.frame_index.shape
        shape, count = (clips, -1, frames, -1), len(self.query)
        # copies: a view of a parameter still asks for a gradient in inference mode, which the count of FLOPs trips over
        x = self.query[:, None].repeat(clips, 1, frames, 1)
        code = self.query_code[:, None].repeat(clips, 1, frames, 1)
        if prompts is not None and len(prompts):
            x = torch.cat([x, prompts.query.expand(shape)], 1)
            code = torch.cat([code, prompts.query_position.expand(shape)], 1)
            x = self._ask(0, x, code, prompts)
            if self.settings.proca:  # from here on a prompt query's content is its own position
                code = torch.cat([code[:, :count], x[:, count:]], 1)
        outputs = [self.heads(x, scene.mask, count, paired)]
        for index, layer in enumerate(self._layers()):
            scale = index % len(scene.sources)
            if index:
                x = self._ask(index, x, code, prompts)
            mask = readable(outputs[-1], scene.sizes[scale])
            source, source_code = scene.sources[scale].flatten(0, 1), scene.codes[scale].flatten(0, 1)
            x = _clips(layer.cross(_frames(x), source, _frames(code), source_code, mask), clips)
            x = layer.exchange(x, code, count, self._mode(prompts), None if prompts is None else prompts.valid)
            x = layer.mlp(x)
            current = self.heads(x, scene.mask, count, paired)
            outputs = [*outputs, current] if every else [current]
        return outputs

    def _layers(self) -> list[DecoderLayer]:
        return list(self.layers)  # type: ignore[arg-type]

    def _ask(self, index: int, x: Tensor, code: Tensor, prompts: PromptTokens | None) -> Tensor:
        """ProCA of a layer on the prompt queries; the learnable ones pass."""
        proca, count = self._layers()[index].proca, len(self.query)
        if proca is None or prompts is None or not len(prompts):
            return x
        return torch.cat([x[:, :count], proca(x[:, count:], code[:, count:], prompts)], 1)

    def _mode(self, prompts: PromptTokens | None) -> SelfAttention:
        mode = self.settings.self_attention
        blocked = prompts is not None and prompts.kind == "expression" and mode == "sep"
        return "sep-blocked" if blocked else mode


def readable(outputs: Outputs, size: tuple[int, int]) -> Tensor:
    """Where queries may look, bool (B T, 1, Q, h w): inside their predicted masks, everywhere if those are empty.

    Args:
        size: (h, w) of the scale that is read next.
    """
    masks = torch.cat([outputs.learnable.masks, outputs.prompt.masks], 1).detach()
    small = F.interpolate(masks.flatten(0, 1), size, mode="bilinear", align_corners=False)
    inside = (small.sigmoid() >= 0.5).flatten(-2).view(*masks.shape[:3], -1).transpose(1, 2).flatten(0, 1)
    return (inside | ~inside.any(-1, keepdim=True))[:, None]


def _frames(x: Tensor) -> Tensor:
    """(B, Q, T, C) as (B T, Q, C)."""
    return x.transpose(1, 2).flatten(0, 1)


def _clips(x: Tensor, clips: int) -> Tensor:
    """(B T, Q, C) as (B, Q, T, C)."""
    return x.unflatten(0, (clips, -1)).transpose(1, 2)
