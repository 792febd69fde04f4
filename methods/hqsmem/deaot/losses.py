"""Losses of the AOT family on the base tracker's logits. Source: the released code, with which DeAOT trains too."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

HARD_FRACTION = 0.15  # share of the pixels that count at the end of the bootstrapping ramp
RAMP_END = 0.5  # share of the training that the ramp takes


def hard_fraction(progress: float) -> float:
    """Return the fraction of pixels that count: it falls linearly from 1 to 0.15 over the first half of the training.

    Args:
        progress: share of the training that is done, in [0, 1].
    """
    ratio = min(1.0, progress / RAMP_END)
    return ratio * HARD_FRACTION + 1 - ratio


def bootstrapped_cross_entropy(logits: Tensor, labels: Tensor, fraction: float) -> Tensor:
    """Return the cross-entropy of each sample's hardest pixels, mean over pixels and samples.

    Args:
        logits: float (B, C, H, W).
        labels: int64 (B, H, W), in [0, C).
        fraction: share of the pixels that count, in (0, 1]; at least one pixel does.
    """
    pixels = F.cross_entropy(logits.float(), labels, reduction="none").flatten(1)
    return pixels.topk(max(1, int(fraction * pixels.shape[1])), 1).values.mean()


def soft_jaccard(logits: Tensor, labels: Tensor) -> Tensor:
    """Return 1 - Σ p g / (Σ p + Σ g - Σ p g) on softmax, mean over the classes in a sample's labels, then over samples.

    The background is a class.

    Args:
        logits: float (B, C, H, W).
        labels: int64 (B, H, W), in [0, C).
    """
    prob = logits.float().softmax(1).flatten(2)
    truth = F.one_hot(labels.flatten(1), logits.shape[1]).transpose(1, 2).to(prob.dtype)
    overlap = (prob * truth).sum(2)
    # Classes without a pixel in the labels do not count, so that unused identities cost nothing.
    loss = 1 - overlap / (prob.sum(2) + truth.sum(2) - overlap + 1e-6)
    present = truth.amax(2)
    return ((loss * present).sum(1) / present.sum(1)).mean()
