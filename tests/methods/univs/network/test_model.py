"""UniVS's network: position codes, encoding of frames, initial prompt queries (equations 1 and 2), gradients."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from common.errors import InputError
from methods.univs.network.model import UniVSNetwork
from methods.univs.network.positions import grid_code, place_code, time_code
from methods.univs.network.prompts import VisualTokens
from methods.univs.settings import UniVSSettings, preset
from tests.support.fake_univs import FRAMES, random_visual_prompts


def test_codes_by_hand():
    code = place_code(torch.tensor([0.25, 0.5]), 8)  # x a quarter, y a half of the image
    y, x = math.pi, math.pi / 2
    expected = [math.sin(y), math.cos(y), math.sin(y / 100), math.cos(y / 100)]  # 10000^(2 / 4) = 100
    expected += [math.sin(x), math.cos(x), math.sin(x / 100), math.cos(x / 100)]
    torch.testing.assert_close(code, torch.tensor(expected), atol=1e-6, rtol=0)
    grid = grid_code((2, 4), 8)
    torch.testing.assert_close(grid[0], code, atol=1e-5, rtol=0)  # the first cell: 1 of 4 and 1 of 2
    arbitrary = time_code(torch.tensor([[0, 64]]), 4, "arbitrary")
    angle = math.pi
    expected_time = [math.sin(angle), math.cos(angle), math.sin(angle / 100), math.cos(angle / 100)]
    torch.testing.assert_close(arbitrary[0, 1], torch.tensor(expected_time), atol=1e-6, rtol=0)
    assert arbitrary[0, 0].tolist() == [0, 1, 0, 1]
    fixed = time_code(torch.tensor([[50, 99]]), 4, "fixed")  # places 1 and 2 of 2: half a turn and a whole one
    torch.testing.assert_close(fixed[0, 0], arbitrary[0, 1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (7, 100), (64, 64)])
def test_any_size_is_padded_to_a_multiple_of_32(network, size):
    with torch.inference_mode():
        scene = network.scene(network.encode(torch.rand(1, 3, *size)), torch.tensor([[0]]))
        (output,) = network.decode(scene, all_layers=False)
    padded = tuple(-(-side // 32) * 32 for side in size)
    assert scene.padded == padded
    assert scene.size == size
    assert output.learnable.masks.shape == (1, 6, 1, padded[0] // 4, padded[1] // 4)
    assert output.prompt.masks.shape[1] == 0


def test_frames_are_encoded_each_by_itself(network):
    frames = torch.rand(3, 3, 40, 40)
    with torch.inference_mode():
        together, alone = network.encode(frames), network.encode(frames[1:2])
    torch.testing.assert_close(together[1:2].mask_features, alone.mask_features, atol=1e-5, rtol=1e-4)
    joined = type(together).cat([together[:1], together[1:]])
    assert len(joined.mask_features) == 3
    assert all(torch.equal(a, b) for a, b in zip(joined.maps, together.maps, strict=True))


def test_half_precision(network, scene):
    frames = torch.rand(3, 3, 50, 70)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        clip = network.scene(network.encode(frames), torch.tensor([FRAMES]))
        text = network.text.expressions(["the red one"])[None]
        outputs = [
            network.decode(clip, each)[-1]
            for each in (random_visual_prompts(network), network.expression_prompts(clip, text))
        ]
    assert clip.mask_features.dtype == torch.float32  # the pixel decoder is never halved
    assert all(part.masks.isfinite().all() for output in outputs for part in (output.learnable, output.prompt))


def test_first_query_of_a_visual_prompt(network):
    """The mean of the tokens that are not blank, plus the task vector; the position has no task vector."""
    content, position = torch.zeros(1, 1, 1, 3, 96), torch.zeros(1, 1, 1, 3, 96)
    content[..., 0, 0], content[..., 1, 0] = 1.0, 4.0
    position[..., 0, 1], position[..., 1, 1] = 2.0, 6.0
    prompts = network.visual_prompts(VisualTokens(content, position))
    expected = network.task["visual"].clone()
    expected[0] += 2.5
    torch.testing.assert_close(prompts.query[0, 0, 0], expected)
    assert prompts.query_position[0, 0, 0, :3].tolist() == [0, 4, 0]
    assert network.visual_prompts(VisualTokens(content, position), position_from_content=True).query_position[
        0, 0, 0, :2
    ].tolist() == [2.5, 0]


def test_proca_reads_the_memory_and_the_query_is_of_the_frame(network):
    tokens, memory = (
        VisualTokens(torch.randn(1, 2, s, r, 96), torch.randn(1, 2, s, r, 96)) for s, r in ((3, 4), (1, 24))
    )
    prompts = network.visual_prompts(tokens, memory)
    torch.testing.assert_close(prompts.query, tokens.content.mean(3) + network.task["visual"])
    assert prompts.content is memory.content
    scene = network.scene(network.encode(torch.rand(3, 3, 32, 32)), torch.tensor([[0, 1, 2]]))
    assert network.decode(scene, prompts)[-1].prompt.masks.shape == (1, 2, 3, 8, 8)


def test_first_query_of_a_text_prompt(network):
    scene = network.scene(network.encode(torch.rand(2, 3, 32, 64)), torch.tensor([[0, 1]]))
    text = torch.randn(1, 3, 5, 64)
    tokens = network.language(text, scene)
    assert tokens.shape == (1, 3, 2, 5, 96)
    expression = network.expression_prompts(scene, text)
    torch.testing.assert_close(expression.query, tokens[:, :, :, 0] + network.task["expression"])
    torch.testing.assert_close(expression.query_position, tokens[:, :, :, 0])
    assert expression.position is None
    category = network.category_prompts(scene, text[:, :, 0])
    torch.testing.assert_close(
        category.query, network.language(text[:, :, :1], scene)[:, :, :, 0] + network.task["category"]
    )
    extra = torch.randn(1, 3, 1, 4, 96)
    both = network.expression_prompts(scene, text, extra=extra)
    torch.testing.assert_close(both.content, torch.cat([extra.expand(-1, -1, 2, -1, -1), tokens], 3))
    torch.testing.assert_close(both.query, expression.query)


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    network = UniVSNetwork(preset(queries=4, layers=3)).train()
    scene = network.scene(network.encode(torch.rand(2, 3, 64, 64)), torch.tensor([[0, 1]]))
    total = torch.zeros(())
    concepts = network.concepts(["cat", "dog"])
    text = network.text.expressions(["the left one"])[None]
    kinds = (
        random_visual_prompts(network),
        network.category_prompts(scene, concepts[None]),
        network.expression_prompts(scene, text),
    )
    for prompts in kinds:
        for output in network.decode(scene, prompts):
            for part in (output.learnable, output.prompt):
                total = (
                    total + part.masks.square().mean() + network.class_logits(part.classes, concepts).square().mean()
                )
    total.backward()
    without = {name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()}
    # deformable attention starts out the same at every query: codes matter after the first step
    assert without == {"pixels.body.level_embed"}


@pytest.mark.parametrize(
    ("change", "said"), [({"hidden": 80}, "hidden is 80"), ({"heads": 7}, "7 heads"), ({"layers": 0}, "at least 1")]
)
def test_settings_that_do_not_fit(change, said):
    with pytest.raises(InputError, match=said):
        replace(UniVSSettings(), **change)
