"""Preprocessing of frames and masks, and frozen batch norms: values by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common.nn.frozen_norm import FrozenNormModule, batch_norms
from common.nn.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    crop_padding,
    normalise,
    pad_to_multiple,
    resize_frame,
    resize_logits,
    resize_mask,
)


def test_normalise_by_hand():
    image = torch.full((2, 3, 1, 1), 0.5)
    expected = [(0.5 - mean) / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    assert normalise(image)[1, :, 0, 0].tolist() == pytest.approx(expected, abs=1e-6)
    assert normalise(image.bfloat16()).dtype == torch.bfloat16


def test_frame_of_the_right_size_is_scaled_only():
    frame = torch.randint(0, 256, (4, 6, 3), dtype=torch.uint8)
    assert torch.equal(resize_frame(frame, (4, 6))[0], frame.permute(2, 0, 1) / 255)
    assert resize_frame(frame, (2, 3)).shape == (1, 3, 2, 3)
    grey = torch.full((8, 8, 3), 51, dtype=torch.uint8)
    torch.testing.assert_close(resize_frame(grey, (3, 5)), torch.full((1, 3, 3, 5), 0.2))


def test_small_masks_do_not_vanish():
    speck = torch.zeros(8, 8, dtype=torch.bool)
    assert not resize_mask(speck, (2, 2)).any()
    speck[5, 3] = True
    assert resize_mask(speck, (2, 2)).tolist() == [[False, False], [True, False]]
    assert torch.equal(resize_mask(speck, (8, 8)), speck)
    # a mask that nearest neighbour meets keeps its shape: it does not grow to all that it touches
    speck[4:, :5] = True
    assert resize_mask(speck, (2, 2)).tolist() == [[False, False], [True, True]]


def test_logits_of_the_same_size_stay_bit_identical():
    logits = torch.randn(2, 1, 5, 7)
    assert torch.equal(resize_logits(logits, (5, 7)), logits)
    assert torch.equal(
        resize_logits(logits, (9, 8)), F.interpolate(logits, (9, 8), mode="bilinear", align_corners=False)
    )


def test_padding_and_its_inverse():
    x = torch.arange(1.0, 7.0).view(2, 3)
    assert pad_to_multiple(x, 4).tolist() == [[0] * 4, [1, 2, 3, 0], [4, 5, 6, 0], [0] * 4]
    assert torch.equal(crop_padding(pad_to_multiple(x, 4), (2, 3), 4), x)
    clip = torch.rand(2, 3, 33, 64)
    assert pad_to_multiple(clip, 32).shape == (2, 3, 64, 64)
    assert torch.equal(crop_padding(pad_to_multiple(clip, 32), (33, 64), 32), clip)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_norms_stay_in_eval_mode(frozen):
    class Net(FrozenNormModule):
        def __init__(self) -> None:
            super().__init__()
            self.frozen_norm = frozen
            self.body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout())

    net = Net().train()
    assert [norm.training for norm in batch_norms(net)] == [not frozen]
    assert net.body[2].training
    assert not any(part.training for part in net.eval().modules())
