"""Sizes, normalisation and merging of engines, by hand."""

from __future__ import annotations

import pytest
import torch

from methods.hqsmem.preprocessing import inner_size, merge_engines, prepare


@pytest.mark.parametrize(
    ("size", "aligned", "scale", "expected"),
    [
        ((480, 854), True, 1.0, (481, 849)),
        ((480, 854), False, 1.0, (480, 848)),
        ((1080, 1920), True, 1.0, (577, 1041)),  # 585 x 1040: 36.5 steps go to the even 36
        ((720, 1280), False, 1.3, (768, 1344)),  # 585 x 1040, then 760.5 x 1352: 84.5 steps go to 84
        ((5, 900), True, 1.0, (17, 897)),
    ],
)
def test_sizes_that_the_network_sees(size, aligned, scale, expected):
    assert inner_size(size, aligned, 1040, scale) == expected


def test_frames_are_normalised():
    frame = torch.tensor([124, 116, 104], dtype=torch.uint8).expand(32, 48, 3)
    image = prepare(frame, (17, 33))
    assert image.shape == (1, 3, 17, 33)
    # 124 / 255 = 0.486275, less the mean 0.485, by the deviation 0.229; and so on
    expected = torch.tensor([0.005567, -0.004902, 0.008191])
    torch.testing.assert_close(image[0, :, 5, 5], expected, atol=1e-5, rtol=0)


def test_engines_are_merged_by_hand():
    """Backgrounds .5 and .8, targets .5 | .2, 0: background .4, and logits of probabilities kept from 0 and 1."""
    one = torch.tensor([0.5, 0.5]).log().view(1, 2, 1, 1)
    two = torch.tensor([0.8, 0.2, 0.0]).log().view(1, 3, 1, 1)
    merged = merge_engines([one, two]).flatten()
    torch.testing.assert_close(merged.sigmoid(), torch.tensor([0.4, 0.5, 0.2, 1e-5]))
    assert merge_engines([one]) is one
