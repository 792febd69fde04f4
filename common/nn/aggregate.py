"""Soft aggregation: probabilities of single targets made those of targets that share the pixels (STM, ICCV 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-7


def soft_aggregate(prob: Tensor, dim: int = 1) -> Tensor:
    """Logits of background and targets; their softmax gives shares that add up to 1.

    Background is where no target is, Π (1 - p); a logit is ln(p / (1 - p)) of a probability kept in [1e-7, 1 - 1e-7].

    Args:
        prob: (..., N, ...) with the N targets at ``dim``, 0 to 1.

    Returns:
        float32 (..., N + 1, ...), background first.
    """
    prob = prob.float()
    background = (1 - prob).prod(dim, keepdim=True)
    return torch.cat([background, prob], dim).clamp(EPSILON, 1 - EPSILON).logit()
