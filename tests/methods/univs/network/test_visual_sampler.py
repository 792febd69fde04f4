"""UniVS's visual sampler: tokens of masks, boxes and points."""

from __future__ import annotations

import pytest
import torch

from methods.univs.network.positions import place_code
from methods.univs.network.prompts import VisualTokens, mean_token
from methods.univs.network.scene import Scene
from methods.univs.network.visual_sampler import jitter_box, sample_box, sample_mask, sample_points

HEIGHT, WIDTH, CHANNELS = 4, 6, 8


@pytest.fixture
def scene() -> Scene:
    """Two clips of two frames of 32x44 pixels, padded to 32x48; a feature's first channel says where it is."""
    number = torch.arange(2 * 2 * HEIGHT * WIDTH).view(2, 2, HEIGHT * WIDTH, 1).float() + 1
    source = torch.cat([number, torch.randn(2, 2, HEIGHT * WIDTH, CHANNELS - 1)], -1).requires_grad_()
    code, time = torch.randn(2, 2, HEIGHT * WIDTH, CHANNELS), torch.randn(2, 2, CHANNELS)
    coarse = torch.zeros(2, 2, 1, CHANNELS)
    return Scene(
        torch.zeros(2, 2, CHANNELS, 8, 12),
        (coarse, coarse, source),
        (coarse, coarse, code),
        time,
        ((1, 1), (2, 3), (HEIGHT, WIDTH)),
        torch.arange(2).expand(2, 2),
        (32, 44),
    )


def cells(tokens: VisualTokens, clip: int, frame: int) -> list[int]:
    """Where a scene's tokens come from: numbers of cells, from 0."""
    return (tokens.content[:, 0] - 1 - (clip * 2 + frame) * HEIGHT * WIDTH).int().tolist()


def mask_of(*rectangle: int) -> torch.Tensor:
    top, left, bottom, right = rectangle
    mask = torch.zeros(32, 44, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def test_a_cell_is_inside_if_its_top_left_pixel_is(scene):
    tokens = sample_mask(
        scene, 1, 1, mask_of(8, 9, 20, 25), 32
    )  # rows 8 and 16, columns 16 and 24 of the cells' corners
    assert sorted(set(cells(tokens, 1, 1))) == [8, 9, 14, 15]
    assert torch.equal(tokens.position[0], scene.codes[-1][1, 1, 8])
    assert not tokens.content.requires_grad


def test_one_cell_gives_identical_tokens(scene):
    tokens = sample_mask(scene, 0, 1, mask_of(16, 16, 17, 17), 32)
    assert cells(tokens, 0, 1) == [14] * 32
    assert len(tokens.position.unique(dim=0)) == 1


def test_fewer_cells_than_tokens_come_in_turn(scene):
    assert cells(sample_mask(scene, 0, 0, mask_of(0, 0, 8, 20), 7), 0, 0) == [0, 1, 2, 0, 1, 2, 0]


def test_draws_are_without_replacement_and_repeatable(scene):
    whole = mask_of(0, 0, 32, 44)
    first, again, other = (
        cells(sample_mask(scene, 0, 0, whole, 20, generator=torch.Generator().manual_seed(seed)), 0, 0)
        for seed in (1, 1, 2)
    )
    assert len(set(first)) == 20
    assert first == again != other


def test_extreme_cells_come_first_where_there_are_enough(scene):
    diamond = torch.zeros(32, 44, dtype=torch.bool)
    for row, column in ((0, 2), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (2, 4), (3, 2)):
        diamond[row * 8, column * 8] = True
    tokens = sample_mask(scene, 0, 0, diamond, 6, extremes=True)
    assert cells(tokens, 0, 0)[:4] == [12, 2, 16, 20]  # leftmost, topmost, rightmost, lowest
    few = sample_mask(scene, 0, 0, diamond, 10, extremes=True)
    assert cells(few, 0, 0)[:4] == [2, 7, 8, 9]  # nine cells for ten tokens: all of them


def test_a_mask_between_the_corners_takes_the_cells_that_it_touches(scene):
    assert cells(sample_mask(scene, 0, 0, mask_of(10, 13, 12, 18), 4), 0, 0) == [7, 8, 7, 8]


def test_an_empty_mask_gives_blank_tokens(scene):
    tokens = sample_mask(scene, 0, 0, mask_of(0, 0, 0, 0), 5)
    assert not tokens.content.any()
    assert not tokens.position.any()
    assert not mean_token(tokens.content).any()


@pytest.mark.parametrize(
    ("box", "expected"),
    [((8.0, 8.0, 24.0, 16.0), [7, 8]), ((9.0, 9.0, 10.0, 10.0), [7]), ((-5.0, 20.0, 3.0, 60.0), [12, 18])],
)
def test_a_box_takes_the_cells_that_it_touches(scene, box, expected):
    assert sorted(set(cells(sample_box(scene, 0, 0, box, 32), 0, 0))) == expected


def test_a_point_is_a_bilinear_sample(scene):
    tokens = sample_points(scene, 1, 0, torch.tensor([[16.0, 12.0]]), 32)  # between cells 1 and 2 of the second row
    assert tokens.content.shape == tokens.position.shape == (32, CHANNELS)
    source = scene.sources[-1][1, 0].detach()
    torch.testing.assert_close(tokens.content[31], (source[7] + source[8]) / 2)
    expected = place_code(torch.tensor([16 / 48, 12 / 32]), CHANNELS) + scene.time_code[1, 0]
    torch.testing.assert_close(tokens.position[0], expected)
    both = sample_points(scene, 1, 0, torch.tensor([[4.0, 4.0], [12.0, 4.0]]), 3)
    torch.testing.assert_close(both.content, source[[0, 1, 0]])


def test_only_large_boxes_are_moved():
    assert jitter_box((0, 0, 30, 30), (100, 100)) == (0, 0, 30, 30)
    torch.manual_seed(0)
    for _ in range(20):
        x0, y0, x1, y1 = jitter_box((20, 30, 60, 80), (100, 100))
        assert abs((x0 + x1) / 2 - 40) <= 4
        assert abs((y0 + y1) / 2 - 55) <= 5
        assert 36 <= x1 - x0 <= 44
        assert 45 <= y1 - y0 <= 55
    assert (x0, y0, x1, y1) != (20, 30, 60, 80)
