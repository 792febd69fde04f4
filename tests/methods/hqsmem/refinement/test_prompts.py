"""Boxes and points of masks, by hand."""

from __future__ import annotations

import torch

from methods.hqsmem.refinement.prompts import boxes_of, sample_points
from tests.support.small_refiner import rectangle


def test_boxes_are_inclusive_and_hold_all_parts():
    two_parts = rectangle(2, 5, 3, 4) | rectangle(10, 11, 20, 24)
    boxes = boxes_of(torch.stack([rectangle(0, 16, 0, 24), rectangle(7, 8, 9, 10), two_parts]))
    assert boxes.tolist() == [[0, 0, 23, 15], [9, 7, 9, 7], [3, 2, 23, 10]]


def test_points_lie_where_their_labels_say():
    """A box of 10 x 10 pixels, enlarged by 20 %: one pixel on each side."""
    mask = rectangle(3, 13, 5, 15)
    points, labels = sample_points(mask, 5, 200, torch.Generator().manual_seed(0))
    assert labels.tolist() == [1] * 5 + [0] * 200
    x, y = points.long().unbind(1)
    assert mask[y[:5], x[:5]].all()
    assert not mask[y[5:], x[5:]].any()
    assert (x[5:].min(), x[5:].max(), y[5:].min(), y[5:].max()) == (4, 15, 2, 13)


def test_a_mask_of_the_whole_frame_has_no_negative_points():
    _, labels = sample_points(torch.ones(4, 4, dtype=torch.bool), 1, 2, torch.Generator())
    assert labels.tolist() == [1, -10, -10]
