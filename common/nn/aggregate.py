"""Soft aggregation of the probabilities of several targets (STM, Oh et al., arXiv 1904.00607)."""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-7  # probabilities are clamped to [EPSILON, 1 - EPSILON]


def soft_aggregate(prob: Tensor, dim: int = 1) -> Tensor:
    """Merge independent probabilities of N targets into logits of a softmax over background and targets.

    The probability of the background is Π (1 - p). The logit of a probability is ln(p / (1 - p)).

    Args:
        prob: (..., N, ...), in [0, 1].
        dim: axis of the targets.

    Returns:
        Logits float32 (..., N + 1, ...), background first.
    """
    prob = prob.float()
    background = (1 - prob).prod(dim, keepdim=True)
    return torch.cat([background, prob], dim).clamp(EPSILON, 1 - EPSILON).logit()
