"""UniVS's operations on masks, by hand."""

from __future__ import annotations

import pytest
import torch

from methods.univs.inference.mask_ops import (
    mask_iou,
    mask_quality,
    max_box_iou,
    max_frame_iou,
    resolve_overlaps,
    upsample_logits,
    upsample_masks,
)


def test_quality():
    logits = torch.tensor([[2.0, 1.5, 0.0, -0.5, -2.0], [0.5, 0.0, -3.0, -3.0, -3.0], [-2.0] * 5])
    # over 1: 2, 0, 0; over -1: 4, 2, 0
    assert mask_quality(logits[:, None, None]).tolist() == [0.5, 0.0, 0.0]


def test_competition():
    logits = torch.tensor([[2.0, 2.0, -1.0, 3.0], [1.0, 4.0, -1.0, -2.0]])[:, None, None]
    # probabilities .881 .881 .269 .953 and .731 .982 .269 .119; with weights 1 and 0.9: the second wins pixel 1 alone
    # (.884 > .881); nobody claims pixel 2
    shared, share = resolve_overlaps(logits, torch.tensor([1.0, 0.9]))
    assert shared[:, 0, 0].tolist() == [[2.0, 0.0, -1.0, 3.0], [0.0, 4.0, -1.0, -2.0]]
    torch.testing.assert_close(share, torch.tensor([2 / 3, 1 / 2]))


def test_overlaps():
    a = torch.zeros(3, 2, 4, 4, dtype=torch.bool)
    a[0, 0, :2, :2] = a[1, 0, :2, 1:3] = a[1, 1, 0, 0] = a[0, 1, 3, 3] = True
    # masks: 2 common of 5 + 5; boxes: 2 / 6 on frame 0, 0 on frame 1
    assert mask_iou(a, a)[0, 1] == pytest.approx(2 / 8)
    assert mask_iou(a, a)[2].tolist() == [0.0, 0.0, 0.0]
    assert max_box_iou(a)[0, 1] == pytest.approx(2 / 6)
    assert max_box_iou(a)[2].tolist() == [0.0, 0.0, 0.0]
    assert mask_iou(a[:0], a).shape == (0, 3)
    # by frame: 2 of 6, 0 of 2
    assert max_frame_iou(a[0], a).tolist() == pytest.approx([1.0, 2 / 6, 0.0])


def test_masks_at_the_size_of_frames():
    small = torch.tensor([[[1.0, -1.0], [1.0, -1.0]]])
    large = upsample_logits(small, (7, 6))
    assert large.shape == (1, 7, 6)
    assert (large > 0)[0, 0].tolist() == [True] * 4 + [False] * 2
    assert upsample_logits(small, (8, 8), (4, 4)).shape == (1, 4, 4)
    assert upsample_masks(small[0] > 0, (3, 6)).tolist() == [[True] * 4 + [False] * 2] * 3
