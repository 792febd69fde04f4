"""Simulated clicks and boxes."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.nn.sam2.prompts import correction_click, first_click, noisy_box, uniform_click

DRAWS = 400


def masks(seed: int, share: float = 0.2) -> torch.Tensor:
    """Random bool (DRAWS, 7, 11), some of them empty."""
    generator = torch.Generator().manual_seed(seed)
    out = torch.rand(DRAWS, 7, 11, generator=generator) < share
    out[::10] = False
    return out


def at(mask: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Values of masks (B, H, W) under points (B, 1, 2)."""
    x, y = points[:, 0].long().unbind(-1)
    return mask[torch.arange(len(mask)), y, x]


def test_uniform_click_is_inside_and_reaches_every_pixel():
    region = torch.zeros(DRAWS, 4, 6, dtype=torch.bool)
    region[:, 1, 2:5] = True
    region[:, 3, 5] = True
    points = uniform_click(region)
    assert {tuple(p) for p in points.long().tolist()} == {(2, 1), (3, 1), (4, 1), (5, 3)}
    counts = (points == torch.tensor([5.0, 3.0])).all(1).sum()
    assert 60 < counts < 140  # a quarter of 400


def test_uniform_click_of_nothing_is_anywhere():
    points = uniform_click(torch.zeros(DRAWS, 3, 5, dtype=torch.bool))
    assert len(set(map(tuple, points.tolist()))) == 15


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_first_click_is_positive_on_the_target_or_negative_where_it_is_absent(seed):
    torch.manual_seed(seed)
    target = masks(seed)
    points, labels = first_click(target)
    assert points.shape == (DRAWS, 1, 2)
    assert labels.shape == (DRAWS, 1)
    present = target.flatten(1).any(1)
    assert torch.equal(labels[:, 0] == 1, present)
    assert torch.equal(at(target, points), present)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_correction_click_lies_on_the_error_with_the_label_of_the_truth(seed):
    torch.manual_seed(seed)
    target, predicted = masks(seed), masks(seed + 1)
    predicted[::3] = target[::3]  # nothing to correct
    points, labels = correction_click(predicted, target)
    wrong = at(predicted ^ target, points)
    right = ~(predicted ^ target).flatten(1).any(1)
    assert torch.equal(wrong, ~right)
    assert torch.equal(labels[:, 0].bool(), at(target, points))
    assert not labels[right].any()
    assert not at(target, points)[right].any()


def test_missed_pixels_give_positive_and_invented_ones_negative_clicks():
    target = torch.zeros(2, 4, 4, dtype=torch.bool)
    target[:, 1, 1] = target[:, 1, 2] = True
    predicted = target.clone()
    predicted[0, 1, 2] = False
    predicted[1, 3, 0] = True
    points, labels = correction_click(predicted, target)
    assert points[:, 0].tolist() == [[2, 1], [0, 3]]
    assert labels[:, 0].tolist() == [1, 0]


def test_box_without_noise_is_tight():
    target = torch.zeros(2, 20, 30, dtype=torch.bool)
    target[0, 4:9, 10:21] = True
    target[1, 19, 29] = True
    points, labels = noisy_box(target, noise=0.0)
    assert points.tolist() == [[[10, 4], [20, 8]], [[29, 19], [29, 19]]]
    assert labels.tolist() == [[2, 3], [2, 3]]


def test_box_noise_is_bounded_by_a_share_of_the_side_and_by_pixels():
    target = torch.zeros(DRAWS, 400, 600, dtype=torch.bool)
    target[:, 100:201, 50:551] = True  # sides 500 and 100: at most 20 (not 50) and 10 pixels
    points, _ = noisy_box(target)
    moved = (points - torch.tensor([[50.0, 100.0], [550.0, 200.0]])).abs()
    assert moved[..., 0].max() <= 20
    assert moved[..., 1].max() <= 10
    assert moved[..., 0].max() > 18
    assert moved[..., 1].max() > 9


def test_box_stays_in_the_frame_and_of_an_absent_target_is_the_frame():
    points, _ = noisy_box(torch.ones(DRAWS, 40, 60, dtype=torch.bool))
    assert points.min() >= 0
    assert points[..., 0].max() <= 59
    assert points[..., 1].max() <= 39
    absent, _ = noisy_box(torch.zeros(1, 40, 60, dtype=torch.bool), noise=0.0)
    assert absent.tolist() == [[[0, 0], [59, 39]]]
