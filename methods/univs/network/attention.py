"""Attention and MLP blocks of the decoder: residual, post-norm, without dropout.

Position codes are added to queries and keys, never to values.
Legend: B clips, N prompts, Q queries, T frames, L tokens of a prompt, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.nn.attention import KEY, QUERY, VALUE, MultiHeadAttention
from methods.univs.network.prompts import PromptTokens
from methods.univs.settings import SelfAttention


def add_code(x: Tensor, code: Tensor | None) -> Tensor:
    """Return ``x`` plus its position code, or ``x`` itself where there is none."""
    return x if code is None else x + code


class AttentionBlock(nn.Module):
    """Base of the attention blocks: multi-head attention and the norm behind its residual.

    Args:
        channels: C.
        heads: attention heads.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(channels, heads)
        self.norm = nn.LayerNorm(channels)


class CrossAttention(AttentionBlock):
    """norm(x + attention(x, memory)): the masked image cross-attention, and Lang2Img."""

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        code: Tensor | None = None,
        memory_code: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return the updated queries (M, Q, C) of M frames.

        Args:
            x: queries (M, Q, C).
            memory: keys and values (M, S, C).
            code: position codes of the queries (M, Q, C).
            memory_code: position codes of the keys (M, S, C).
            mask: bool (M, 1, Q, S), True where a query may attend to a key.
        """
        out: Tensor = self.norm(x + self.attention(add_code(x, code), add_code(memory, memory_code), memory, mask))
        return out


class PromptCrossAttention(AttentionBlock):
    """Prompt cross-attention (ProCA, equation 3): a target's prompt query reads the target's prompt tokens.

    norm(x + attention(x, [x, tokens])), for each target and frame by itself. The query is the first of the keys (as
    released; the paper lists the tokens alone), so that a target without tokens still has a key.
    """

    def forward(self, x: Tensor, code: Tensor, prompts: PromptTokens) -> Tensor:
        """Return the updated prompt queries (B, N, T, C).

        Args:
            x: prompt queries (B, N, T, C).
            code: their position codes (B, N, T, C).
            prompts: the tokens. Text prompts use no position codes at all.
        """
        attention, tokens = self.attention, prompts.content
        query_value, query_code = x[..., None, :], code[..., None, :]
        if prompts.position is None:
            query, token_keys = query_value, tokens
        else:
            query, token_keys = query_value + query_code, tokens + prompts.position
        # tokens shared by all frames are projected once and expanded afterwards
        shape = (*x.shape[:3], attention.heads, tokens.shape[-2], -1)
        key = torch.cat([attention.project(query, KEY), attention.project(token_keys, KEY).expand(shape)], -2)
        value = torch.cat([attention.project(query_value, VALUE), attention.project(tokens, VALUE).expand(shape)], -2)
        parts = (attention.project(query, QUERY), key, value)
        attended = attention.read(*(part.flatten(0, 2) for part in parts))
        out: Tensor = self.norm(x + attended.view_as(x))
        return out


class SeparatedSelfAttention(AttentionBlock):
    """Separated self-attention (SepSA, equation 4) over queries and time.

    norm(x + attention(x)), with one softmax over the T copies of all queries that a query may attend to.
    """

    def forward(
        self, x: Tensor, code: Tensor, learnable: int, mode: SelfAttention, valid: Tensor | None = None
    ) -> Tensor:
        """Return the updated queries (B, Q, T, C).

        Args:
            x: queries (B, Q, T, C), learnable ones first.
            code: their position codes (B, Q, T, C).
            learnable: number of learnable queries.
            mode: which queries attend to which, see ``UniVSSettings``.
            valid: bool (B, Q - learnable), False for prompt queries that only pad the batch; None = all are valid.
        """
        all_queries, frames = slice(None), x.shape[2]
        first, prompted = slice(0, learnable), slice(learnable, x.shape[1])
        updated: Tensor
        if x.shape[1] == learnable or mode == "all":
            mask = None if valid is None else self._mask(valid, learnable, frames)
            updated = self.norm(x + self._attend(x, code, all_queries, all_queries, mask))
            return updated
        parts = [self._attend(x, code, first, first)]
        if mode == "sep-blocked":
            # each target's T copies become a batch entry of their own, so that targets cannot see each other
            alone, alone_code = (part[:, prompted].flatten(0, 1)[:, None] for part in (x, code))
            parts.append(self._attend(alone, alone_code, all_queries, all_queries).view_as(x[:, prompted]))
        else:
            keys = prompted if mode == "sep" else all_queries
            mask = None
            if valid is not None:
                mask = self._mask(valid, 0 if mode == "sep" else learnable, frames)
                mask = mask if mode == "sep" else mask[:, :, learnable * frames :]
            parts.append(self._attend(x, code, prompted, keys, mask))
        updated = self.norm(x + torch.cat(parts, 1))
        return updated

    def _attend(self, x: Tensor, code: Tensor, queries: slice, keys: slice, mask: Tensor | None = None) -> Tensor:
        """Attention output (B, q, T, C) of a range of queries that attends to another range."""
        query = (x[:, queries] + code[:, queries]).flatten(1, 2)
        key, value = (x[:, keys] + code[:, keys]).flatten(1, 2), x[:, keys].flatten(1, 2)
        out: Tensor = self.attention(query, key, value, mask)
        return out.view_as(x[:, queries])

    @staticmethod
    def _mask(valid: Tensor, learnable: int, frames: int) -> Tensor:
        """Attention mask bool (B, 1, Q T, Q T): keys of valid queries, and of the query itself."""
        keys = torch.cat([valid.new_ones(len(valid), learnable), valid], 1).repeat_interleave(frames, 1)
        queries = torch.arange(keys.shape[1], device=valid.device) // frames
        return (keys[:, None] | (queries[:, None] == queries))[:, None]


class FeedForward(nn.Module):
    """norm(x + MLP(x)).

    Args:
        channels: C.
        width: hidden width.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, width)
        self.linear2 = nn.Linear(width, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., C)."""
        out: Tensor = self.norm(x + self.linear2(self.linear1(x).relu()))
        return out
