"""What the decoder is told about its targets: initial prompt queries and the tokens that ProCA reads.

Legend: B clips, N targets, T frames, S = T or 1 (the same for all frames), L tokens of a target, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["visual", "category", "expression"]


@dataclass(frozen=True)
class PromptTokens:
    """Prompts of one kind for a clip, from the methods ``*_prompts`` of ``UniVSNetwork``.

    Attributes:
        kind: of all of them.
        query: (B, N, S, C), initial prompt queries.
        query_position: (B, N, S, C), their position codes.
        content: (B, N, S, L, C), the tokens; a token of zeros is blank.
        position: (B, N, S, L, C), the tokens' position codes, None for text.
        valid: bool (B, N), False where a row only pads the batch: nobody else reads it; None = all are valid.
    """

    kind: Kind
    query: Tensor
    query_position: Tensor
    content: Tensor
    position: Tensor | None
    valid: Tensor | None = None

    def __len__(self) -> int:
        return self.query.shape[1]


@dataclass(frozen=True)
class VisualTokens:
    """Samples of targets on frames, without gradient.

    Attributes:
        content: (..., R, C), features of R places; zeros where there is nothing.
        position: (..., R, C), their position codes.
    """

    content: Tensor
    position: Tensor

    @staticmethod
    def joined(parts: Sequence[VisualTokens], how: Callable[[list[Tensor]], Tensor]) -> VisualTokens:
        """Several as one: contents and positions put together alike."""
        return VisualTokens(how([part.content for part in parts]), how([part.position for part in parts]))


def mean_token(tokens: Tensor) -> Tensor:
    """Mean (..., C) over the tokens (..., L, C) that are not blank, that is all zero; zeros where all are."""
    filled = (tokens != 0).any(-1, keepdim=True).sum(-2).clamp(min=1)
    return tokens.sum(-2) / filled


def stack_tokens(parts: list[VisualTokens]) -> VisualTokens:
    """Tokens of several targets (R, C) as one (N, R, C)."""
    return VisualTokens.joined(parts, torch.stack)
