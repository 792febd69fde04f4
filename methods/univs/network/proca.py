"""Prompt cross-attention (ProCA, equation 3): a target's prompt query reads the target's prompt tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods.univs.network.attention import Attention, with_code
from methods.univs.network.prompts import PromptTokens


class PromptCrossAttention(nn.Module):
    """norm(x + attention(x, [x, tokens])), each target and frame by itself.

    The query stands before its tokens among the keys (as released; the paper lists the tokens alone), so a target
    without a token has something to read.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(channels, heads)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, code: Tensor, prompts: PromptTokens) -> Tensor:
        """Prompt queries x (B, N, T, C) with position codes of the same shape; the answer has it too.

        Text prompts use no position code at all, visual ones use the tokens' on the keys and the query's on itself.
        """
        attention, tokens = self.attention, prompts.content
        own, own_code = x[..., None, :], code[..., None, :]
        if prompts.position is None:
            query, keys = own, tokens
        else:
            query, keys = own + own_code, with_code(tokens, prompts.position)
        shape = (*x.shape[:3], attention.heads, tokens.shape[-2], -1)  # tokens may be shared by all frames
        key = torch.cat([attention.project(query, 1), attention.project(keys, 1).expand(shape)], -2)
        value = torch.cat([attention.project(own, 2), attention.project(tokens, 2).expand(shape)], -2)
        read = attention.read(*(part.flatten(0, 2) for part in (attention.project(query, 0), key, value)))
        return self.norm(x + read.view_as(x))
