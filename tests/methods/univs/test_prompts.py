"""UniVS's prompts: the visual sampler, first queries (equations 1 and 2), ProCA (equation 3)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from methods.univs.network.model import UniVSNetwork
from methods.univs.network.positions import place_code
from methods.univs.network.proca import PromptCrossAttention
from methods.univs.network.prompts import PromptTokens, VisualTokens, mean_token
from methods.univs.network.scene import Scene
from methods.univs.network.visual_sampler import jitter_box, sample_box, sample_mask, sample_points
from methods.univs.settings import preset

HEIGHT, WIDTH, CHANNELS = 4, 6, 8


@pytest.fixture(scope="module")
def core() -> UniVSNetwork:
    torch.manual_seed(0)
    return UniVSNetwork(preset(queries=4)).eval()


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


# The sampler.


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


# First queries.


def test_first_query_of_a_visual_prompt(core):
    """The mean of the tokens that are not blank, plus the task vector; the position has no task vector."""
    content, position = torch.zeros(1, 1, 1, 3, 96), torch.zeros(1, 1, 1, 3, 96)
    content[..., 0, 0], content[..., 1, 0] = 1.0, 4.0
    position[..., 0, 1], position[..., 1, 1] = 2.0, 6.0
    prompts = core.visual_prompts(VisualTokens(content, position))
    expected = core.task["visual"].clone()
    expected[0] += 2.5
    torch.testing.assert_close(prompts.query[0, 0, 0], expected)
    assert prompts.query_position[0, 0, 0, :3].tolist() == [0, 4, 0]
    assert core.visual_prompts(VisualTokens(content, position), position_from_content=True).query_position[
        0, 0, 0, :2
    ].tolist() == [2.5, 0]


def test_memory_is_read_but_the_query_is_the_frames_own(core):
    own, memory = (VisualTokens(torch.randn(1, 2, s, r, 96), torch.randn(1, 2, s, r, 96)) for s, r in ((3, 4), (1, 24)))
    prompts = core.visual_prompts(own, memory)
    torch.testing.assert_close(prompts.query, own.content.mean(3) + core.task["visual"])
    assert prompts.content is memory.content
    scene = core.scene(core.encode(torch.rand(3, 3, 32, 32)), torch.tensor([[0, 1, 2]]))
    assert core.decode(scene, prompts)[-1].prompt.masks.shape == (1, 2, 3, 8, 8)


def test_first_query_of_a_text_prompt(core):
    scene = core.scene(core.encode(torch.rand(2, 3, 32, 64)), torch.tensor([[0, 1]]))
    text = torch.randn(1, 3, 5, 64)
    tokens = core.language(text, scene)
    assert tokens.shape == (1, 3, 2, 5, 96)
    expression = core.expression_prompts(scene, text)
    torch.testing.assert_close(expression.query, tokens[:, :, :, 0] + core.task["expression"])
    torch.testing.assert_close(expression.query_position, tokens[:, :, :, 0])
    assert expression.position is None
    category = core.category_prompts(scene, text[:, :, 0])
    torch.testing.assert_close(category.query, core.language(text[:, :, :1], scene)[:, :, :, 0] + core.task["category"])
    extra = torch.randn(1, 3, 1, 4, 96)
    both = core.expression_prompts(scene, text, extra=extra)
    torch.testing.assert_close(both.content, torch.cat([extra.expand(-1, -1, 2, -1, -1), tokens], 3))
    torch.testing.assert_close(both.query, expression.query)


# ProCA.


def proca_by_hand(position: bool) -> float:
    """Query 1 with code 0.5; tokens 2 and -1 with codes 0 and 1; unit projections, one channel."""
    query, keys = (1.5, [1.5, 2.0, 0.0]) if position else (1.0, [1.0, 2.0, -1.0])
    weights = [math.exp(query * key) for key in keys]
    values = [1.0, 2.0, -1.0]
    return 1.0 + sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


@pytest.mark.parametrize("position", [True, False])
def test_proca_by_hand(position):
    layer = PromptCrossAttention(1, 1)
    layer.norm = nn.Identity()
    with torch.no_grad():
        layer.attention.in_proj_weight.fill_(1.0)
        layer.attention.out_proj.weight.fill_(1.0)
        layer.attention.out_proj.bias.zero_()
    tokens, codes = torch.tensor([2.0, -1.0]).view(1, 1, 1, 2, 1), torch.tensor([0.0, 1.0]).view(1, 1, 1, 2, 1)
    x, code = torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 0.5)
    prompts = PromptTokens("visual" if position else "category", x, code, tokens, codes if position else None)
    assert layer(x, code, prompts).item() == pytest.approx(proca_by_hand(position), abs=1e-6)


def test_proca_without_tokens_reads_the_query_itself():
    layer = PromptCrossAttention(8, 2)
    x = torch.randn(1, 2, 3, 8)
    prompts = PromptTokens("category", x, x, torch.zeros(1, 2, 1, 0, 8), None)
    own = layer.attention.out_proj(layer.attention.project(x, 2).transpose(-2, -3).flatten(-2))
    torch.testing.assert_close(layer(x, x, prompts), layer.norm(x + own))


def test_proca_mixes_neither_targets_nor_frames():
    layer = PromptCrossAttention(8, 2)
    x, tokens = torch.randn(1, 2, 3, 8), torch.randn(1, 2, 3, 4, 8)
    changed = tokens.clone()
    changed[0, 1, 2] += 1
    a, b = (layer(x, x, PromptTokens("visual", x, x, each, each)) for each in (tokens, changed))
    differs = (a != b).any(-1)[0]
    assert differs.tolist() == [[False] * 3, [False, False, True]]


def test_tokens_shared_by_all_frames_are_the_same_as_repeated_ones():
    layer = PromptCrossAttention(8, 2)
    x, tokens = torch.randn(2, 2, 3, 8), torch.randn(2, 2, 1, 4, 8)
    repeated = tokens.expand(-1, -1, 3, -1, -1)
    a, b = (layer(x, x, PromptTokens("visual", x, x, each, each)) for each in (tokens, repeated))
    torch.testing.assert_close(a, b)
