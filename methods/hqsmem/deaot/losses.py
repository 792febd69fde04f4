"""Losses on the base tracker's logits (AOT family; the released code, which DeAOT and HQ-SMem train with)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

HARD = 0.15  # fraction of the pixels that count once mining is in full swing
MINED = 0.5  # of the training, from which on it is


def hard_fraction(progress: float) -> float:
    """Fraction of the pixels that count at ``progress`` in [0, 1]: from 1 down to 0.15 over the first half."""
    ratio = min(1.0, progress / MINED)
    return ratio * HARD + 1 - ratio


def bootstrapped_cross_entropy(logits: Tensor, labels: Tensor, fraction: float) -> Tensor:
    """Cross-entropy over the ``fraction`` of each sample's pixels where it is highest, mean over samples.

    Args:
        logits: float (B, C, H, W).
        labels: int64 (B, H, W), in [0, C).
        fraction: in (0, 1]; at least one pixel counts.
    """
    pixels = F.cross_entropy(logits.float(), labels, reduction="none").flatten(1)
    return pixels.topk(max(1, int(fraction * pixels.shape[1])), 1).values.mean()


def soft_jaccard(logits: Tensor, labels: Tensor) -> Tensor:
    """1 - Σ p g / (Σ p + Σ g - Σ p g) on softmax, mean over the classes that a sample shows, then over samples.

    The background is a class. Arguments are those of ``bootstrapped_cross_entropy``.
    """
    prob = logits.float().softmax(1).flatten(2)
    truth = F.one_hot(labels.flatten(1), logits.shape[1]).transpose(1, 2).to(prob.dtype)
    both = (prob * truth).sum(2)
    loss = 1 - both / (prob.sum(2) + truth.sum(2) - both + 1e-6)
    shown = truth.amax(2)
    return ((loss * shown).sum(1) / shown.sum(1)).mean()
