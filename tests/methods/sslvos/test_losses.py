"""Point losses and the choice of points, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from common.errors import InputError
from methods.sslvos.losses import (
    PointSettings,
    certainty,
    choose_points,
    label_maps,
    mask_losses,
    point_losses,
    sample_points,
)


def test_labels_share_out_the_pixels():
    """Nothing, the first, the second, both: the first counts."""
    masks = torch.tensor([[[[0, 1, 0, 1]], [[0, 0, 1, 1]]]], dtype=torch.bool)
    assert label_maps(masks)[0, :, 0].tolist() == [[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]]


def test_losses_by_hand():
    """Two points, background and one target, logits 0 0 and ln 3 0: p = 1/2 and 1/4; the target is on the first."""
    logits = torch.tensor([[[0.0, math.log(3)], [0.0, 0.0]]])
    labels = torch.tensor([[[0.0, 1], [1, 0]]])
    entropy, dice = point_losses(logits, labels, torch.ones(1, 1, dtype=torch.bool))
    assert entropy.item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    assert dice.item() == pytest.approx(1 - (2 * 0.5 + 1) / (0.75 + 1 + 1))


def test_labels_between_pixels_are_shares():
    """Half target, half background at even odds: ln 2; 1 - (2 * 1/4 + 1) / (1/2 + 1/2 + 1)."""
    half = torch.full((1, 2, 1), 0.5)
    entropy, dice = point_losses(torch.zeros(1, 2, 1), half, torch.ones(1, 1, dtype=torch.bool))
    assert entropy.item() == pytest.approx(math.log(2))
    assert dice.item() == pytest.approx(0.25)


def test_a_padded_target_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    logits, owner = torch.randn(3, 3, 20, generator=generator), torch.randint(0, 2, (3, 20), generator=generator)
    labels = torch.nn.functional.one_hot(owner, 3).movedim(-1, 1).float()
    valid = torch.tensor([[True, False]]).expand(3, -1)
    got = point_losses(logits, labels, valid)
    expected = point_losses(logits[:, :2], labels[:, :2], valid[:, :1])
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_gap_is_between_the_two_largest():
    assert certainty(torch.tensor([[[1.0, -2], [4, -2], [2, -9]]]))[0].tolist() == [2, 0]


def test_values_at_points_lie_between_pixel_centres():
    """A row 0 2 4 6: centre of the second pixel at x = 3/8, half way to the third at 1/2; 6 up to the edge."""
    row = torch.tensor([[[[0.0, 2, 4, 6]]]])
    places = torch.tensor([[[0.375, 0.5], [0.5, 0.5], [1.0, 0.5]]])
    assert sample_points(row, places)[0, 0].tolist() == pytest.approx([2, 3, 6])


def test_unsure_points_lie_on_the_border():
    """Logits 0 and x - 1/2 on a wide map: the three quarters chosen are those nearest to the middle column."""
    torch.manual_seed(0)
    ramp = ((torch.arange(64) + 0.5) / 64 - 0.5).expand(1, 1, 64, 64)
    maps = torch.cat([torch.zeros_like(ramp), 20 * ramp], 1)
    places = choose_points(maps, 400, PointSettings(oversample=4.0, uncertain=0.75))
    assert places.shape == (1, 400, 2)
    assert ((places >= 0) & (places <= 1)).all()
    distance = (places[0, :, 0] - 0.5).abs()
    # 300 of 1600 even candidates: x within 3/32 of the middle
    assert distance[:300].max() < 0.13
    assert distance[300:].max() > 0.4
    assert distance[300:].mean() == pytest.approx(0.25, abs=0.05)


def test_without_unsure_points_all_are_anywhere():
    torch.manual_seed(0)
    places = choose_points(torch.zeros(2, 2, 8, 8), 500, PointSettings(uncertain=0.0))
    assert places.mean((0, 1)).tolist() == pytest.approx([0.5, 0.5], abs=0.05)


def test_losses_are_summed_over_frames_and_mean_over_clips():
    """Every place of a map is alike, so that the points do not matter: ln 2 and 1 - (R + 1) / (R/2 + R + 1) a frame."""
    clips, frames, settings = 2, 3, PointSettings(count=12544)
    masks = torch.ones(clips, frames, 1, 96, 96, dtype=torch.bool)
    logits = torch.zeros(clips, frames, 2, 12, 12)
    entropy, dice = mask_losses(
        logits, label_maps(masks.flatten(0, 1)), torch.ones(clips, 1, dtype=torch.bool), settings
    )
    count = settings.count_at(96, 96)
    assert count == round(12544 * 0.04)
    assert entropy.item() == pytest.approx(frames * math.log(2))
    assert dice.item() == pytest.approx(frames * (1 - (count + 1) / (1.5 * count + 1)))


def test_points_grow_with_the_image():
    settings = PointSettings()
    assert [settings.count_at(480, 480), settings.count_at(240, 240), settings.count_at(1, 1)] == [12544, 3136, 1]


@pytest.mark.parametrize("settings", [{"count": 0}, {"oversample": 0.5}, {"uncertain": 1.5}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(InputError, match="points"):
        PointSettings(**settings)
