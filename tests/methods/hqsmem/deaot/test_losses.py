"""Bootstrapped cross-entropy and soft Jaccard, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from methods.hqsmem.deaot.losses import bootstrapped_cross_entropy, hard_fraction, soft_jaccard
from methods.hqsmem.deaot.network import UNUSED_LOGIT


def logits_of(*rows: list[float]) -> torch.Tensor:
    """Probability of class 1 of each pixel of each sample, as logits (B, 2, 1, W)."""
    prob = torch.tensor(rows)
    return torch.stack([1 - prob, prob], 1).log()[:, :, None]


@pytest.mark.parametrize(
    ("progress", "fraction"), [(0.0, 1.0), (0.25, 0.575), (0.5, 0.15), (0.75, 0.15)]
)  # 0.575 = (1 + 0.15) / 2
def test_fewer_pixels_count_over_the_first_half(progress: float, fraction: float) -> None:
    assert hard_fraction(progress) == pytest.approx(fraction)


def test_cross_entropy_counts_the_worst_pixels_of_each_sample() -> None:
    logits = logits_of([0.5, 0.9, 0.8, 0.2], [0.25, 0.5, 0.5, 0.5])
    labels = torch.tensor([[[1, 1, 1, 0]], [[1, 0, 1, 0]]])
    # losses: log 2, log 10/9, log 5/4, log 5/4 and log 4, log 2, log 2, log 2
    first, second = [2, 10 / 9, 5 / 4, 5 / 4], [4, 2, 2, 2]
    everything = sum(map(math.log, first + second)) / 8
    assert bootstrapped_cross_entropy(logits, labels, 1.0).item() == pytest.approx(everything, rel=1e-6)
    worst_two = (math.log(2) + math.log(5 / 4) + math.log(4) + math.log(2)) / 4
    assert bootstrapped_cross_entropy(logits, labels, 0.5).item() == pytest.approx(worst_two, rel=1e-6)
    worst = (math.log(2) + math.log(4)) / 2  # 0.15 x 4 pixels is less than one
    assert bootstrapped_cross_entropy(logits, labels, 0.15).item() == pytest.approx(worst, rel=1e-6)


def test_jaccard_is_a_mean_over_the_classes_that_a_sample_shows() -> None:
    logits = logits_of([0.5, 0.9, 0.8, 0.2], [0.25, 0.5, 0.5, 0.5])
    labels = torch.tensor([[[1, 1, 0, 0]], [[0, 0, 0, 0]]])
    # sample 1, class 1: overlap 1.4, sum of p 2.4, of g 2: 1.4 / 3.0; class 0: overlap 1.0, 1.6 + 2 - 1.0 = 2.6
    # sample 2, class 0 alone: overlap 2.25, union 4
    expected = ((1 - 1.4 / 3.0 + 1 - 1.0 / 2.6) / 2 + 1 - 2.25 / 4) / 2
    assert soft_jaccard(logits, labels).item() == pytest.approx(expected, rel=1e-5)


def test_identities_that_no_target_has_change_nothing() -> None:
    logits = logits_of([0.5, 0.9, 0.8, 0.2])
    labels = torch.tensor([[[1, 1, 0, 0]]])
    more = torch.cat([logits, torch.full((1, 9, 1, 4), UNUSED_LOGIT)], 1)
    for loss in (soft_jaccard, lambda x, y: bootstrapped_cross_entropy(x, y, 0.5)):
        assert loss(more, labels).item() == pytest.approx(loss(logits, labels).item(), rel=1e-6)
