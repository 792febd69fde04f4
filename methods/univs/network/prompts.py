"""Prompts of the decoder: initial prompt queries, and the tokens that ProCA reads.

Legend: B clips, N targets, T frames, S = T or 1 (shared by all frames), L tokens of a target, R sampled tokens,
C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

PromptKind = Literal["visual", "category", "expression"]


@dataclass(frozen=True)
class PromptTokens:
    """Prompts of one kind for a batch of clips, built by the ``*_prompts`` methods of ``UniVSNetwork``.

    Attributes:
        kind: kind of all prompts.
        query: (B, N, S, C), initial prompt queries.
        query_position: (B, N, S, C), their position codes.
        content: (B, N, S, L, C), the tokens; a token of zeros is blank.
        position: (B, N, S, L, C), position codes of the tokens; None for text.
        valid: bool (B, N), False for rows that only pad the batch, which no other query attends to; None = all valid.
    """

    kind: PromptKind
    query: Tensor
    query_position: Tensor
    content: Tensor
    position: Tensor | None
    valid: Tensor | None = None

    def __len__(self) -> int:
        return self.query.shape[1]


@dataclass(frozen=True)
class VisualTokens:
    """Tokens sampled from the features of frames, without gradient.

    Attributes:
        content: (..., R, C), features; zeros where there is nothing to sample.
        position: (..., R, C), their position codes.
    """

    content: Tensor
    position: Tensor

    @staticmethod
    def combine(parts: Sequence[VisualTokens], function: Callable[[list[Tensor]], Tensor]) -> VisualTokens:
        """Combine the contents, and in the same way the positions.

        Args:
            parts: the tokens to combine.
            function: for example ``torch.cat``.
        """
        return VisualTokens(function([part.content for part in parts]), function([part.position for part in parts]))


def mean_token(tokens: Tensor) -> Tensor:
    """Return the mean (..., C) of the tokens (..., L, C) that are not blank; zeros if all are blank."""
    filled = (tokens != 0).any(-1, keepdim=True).sum(-2).clamp(min=1)
    return tokens.sum(-2) / filled


def stack_tokens(parts: Sequence[VisualTokens]) -> VisualTokens:
    """Stack the tokens (R, C) of N targets to (N, R, C)."""
    return VisualTokens.combine(parts, torch.stack)
