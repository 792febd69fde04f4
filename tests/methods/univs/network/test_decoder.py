"""UniVS's decoder: which queries attend to which, the order of the layer, masked attention, time, heads."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from methods.univs.network.decoder import ClassHead, Outputs, PredictionHeads, Predictions, attention_mask
from methods.univs.network.model import UniVSNetwork
from methods.univs.network.prompts import PromptTokens
from methods.univs.settings import preset
from tests.support.fake_univs import FRAMES, random_visual_prompts


def other(prompts: PromptTokens, target: int, seed: int = 9) -> PromptTokens:
    """The same prompts, but for one target's tokens, query and codes."""
    generator, parts = torch.Generator().manual_seed(seed), {}
    for name in ("query", "query_position", "content", "position"):
        value = getattr(prompts, name).clone()
        value[:, target] = torch.randn(value[:, target].shape, generator=generator)
        parts[name] = value
    return replace(prompts, **parts)


def decode(network: UniVSNetwork, scene, prompts, mode: str | None = None) -> list[Outputs]:
    before = network.decoder.settings
    network.decoder.settings = replace(before, self_attention=mode or before.self_attention)
    try:
        with torch.inference_mode():
            return network.decode(scene, prompts)
    finally:
        network.decoder.settings = before


def same(a: Predictions, b: Predictions, rows: slice = slice(None)) -> bool:
    names = ("masks", "classes", "embeddings")
    return all(torch.equal(getattr(a, name)[:, rows], getattr(b, name)[:, rows]) for name in names)


# Separated self-attention, equation 4.


@pytest.mark.parametrize("mode", ["sep", "sep-blocked", "sep-l2p"])
def test_prompts_leave_learnable_queries_bit_identical(network, scene, mode):
    prompts = random_visual_prompts(network)
    before, after = (decode(network, scene, each, mode) for each in (prompts, other(prompts, 1)))
    assert all(same(a.learnable, b.learnable) for a, b in zip(before, after, strict=True))
    assert not same(before[-1].prompt, after[-1].prompt)


def test_without_separation_they_do_not(network, scene):
    prompts = random_visual_prompts(network)
    before, after = (decode(network, scene, each, "all") for each in (prompts, other(prompts, 1)))
    assert not same(before[-1].learnable, after[-1].learnable)


@pytest.mark.parametrize(("mode", "apart"), [("sep", False), ("sep-blocked", True), ("sep-l2p", False)])
def test_only_blocked_targets_do_not_see_each_other(network, scene, mode, apart):
    prompts = random_visual_prompts(network)
    before, after = (decode(network, scene, each, mode) for each in (prompts, other(prompts, 1)))
    assert same(before[-1].prompt, after[-1].prompt, slice(0, 1)) == apart
    assert same(before[0].prompt, after[0].prompt, slice(0, 1))  # ProCA alone never mixes targets


def test_expressions_are_blocked(network, scene):
    text = torch.randn(1, 2, 5, network.settings.text.outputs, generator=torch.Generator().manual_seed(2))
    changed = text.clone()
    changed[:, 1] += 1
    before, after = (
        decode(network, scene, network.expression_prompts(scene, each), mode)
        for each, mode in ((text, "sep"), (changed, "sep-blocked"))
    )
    assert same(before[-1].prompt, after[-1].prompt, slice(0, 1))
    assert not same(before[-1].prompt, after[-1].prompt, slice(1, 2))


def test_no_query_attends_to_padding_rows(network, scene):
    prompts = random_visual_prompts(network, targets=3)
    padded = replace(prompts, valid=torch.tensor([[True, True, False]]))
    first, second = decode(network, scene, padded), decode(network, scene, other(padded, 2))
    assert same(first[-1].prompt, second[-1].prompt, slice(0, 2))
    assert first[-1].prompt.masks.isfinite().all()
    names = ("query", "query_position", "content", "position")
    shorter = replace(prompts, **{name: getattr(prompts, name)[:, :2] for name in names})
    expected = decode(network, scene, shorter)[-1].prompt.embeddings
    torch.testing.assert_close(first[-1].prompt.embeddings[:, :2], expected, atol=1e-5, rtol=1e-5)


# The layer.


def test_order_of_the_layer(network, scene, monkeypatch):
    """ProCA #0 comes before everything, the later ones before the image; scales go 32, 16, 8."""
    calls: list[str] = []
    for index, layer in enumerate(network.decoder.layers):
        for name in ("proca", "cross", "exchange", "mlp"):
            module = getattr(layer, name)

            def spy(*args, _run=module.forward, _name=f"{name}{index}", **options):
                calls.append(_name if "cross" not in _name else f"{_name}:{args[1].shape[1]}")
                return _run(*args, **options)

            monkeypatch.setattr(module, "forward", spy)
    run = network.decoder.heads.forward
    monkeypatch.setattr(network.decoder.heads, "forward", lambda *a: calls.append("heads") or run(*a))
    outputs = decode(network, scene, random_visual_prompts(network))
    cells = [2 * 3, 4 * 6, 8 * 12]
    expected = ["proca0", "heads"]
    for index in range(3):
        expected += [f"proca{index}"] if index else []
        expected += [f"cross{index}:{cells[index]}", f"exchange{index}", f"mlp{index}", "heads"]
    assert calls == expected
    assert len(outputs) == 4


def test_position_of_a_prompt_is_what_the_first_proca_made_of_it(network, scene, monkeypatch):
    seen = []
    layer = network.decoder.layers[0]
    run = layer.exchange.forward
    monkeypatch.setattr(layer.exchange, "forward", lambda x, code, *a: seen.append(code) or run(x, code, *a))
    prompts, frames = random_visual_prompts(network), len(FRAMES)
    decode(network, scene, prompts)
    query = prompts.query.expand(-1, -1, frames, -1)
    with torch.inference_mode():
        expected = layer.proca(query, prompts.query_position.expand_as(query), prompts)
    assert torch.equal(seen[0][:, 6:], expected)
    assert torch.equal(seen[0][0, :6, 1], network.decoder.query_code)


def test_without_proca_a_prompt_keeps_its_position(scene, monkeypatch):
    torch.manual_seed(0)
    network = UniVSNetwork(preset(queries=6, proca=False)).eval()
    assert not any("proca" in name for name in network.state_dict())
    seen = []
    layer = network.decoder.layers[0].exchange
    run = layer.forward
    monkeypatch.setattr(layer, "forward", lambda x, code, *a: seen.append(code) or run(x, code, *a))
    prompts = random_visual_prompts(network)
    decode(network, scene, prompts)
    assert torch.equal(seen[0][:, 6:, 0], prompts.query_position[:, :, 0])


def test_a_query_attends_inside_its_mask_or_everywhere():
    masks = torch.full((1, 2, 1, 4, 8), -1.0)
    masks[0, 0, 0, :, :4] = 1.0
    empty = Predictions(masks[:, :0], masks[:, :0], masks[:, :0])
    out = attention_mask(Outputs(Predictions(masks, masks, masks), empty), (2, 4))
    assert out.shape == (1, 1, 2, 8)
    assert out[0, 0, 0].tolist() == [True, True, False, False] * 2
    assert out[0, 0, 1].all()


# Time.


def test_one_frame_and_three_share_weights(network, scene):
    """A clip of one frame runs, and is not what the same frame is among three."""
    single = replace(
        scene,
        mask_features=scene.mask_features[:, :1],
        sources=tuple(x[:, :1] for x in scene.sources),
        codes=tuple(x[:, :1] for x in scene.codes),
        time_code=scene.time_code[:, :1],
        frame_index=scene.frame_index[:, :1],
    )
    one, three = (
        decode(network, single, random_visual_prompts(network)),
        decode(network, scene, random_visual_prompts(network)),
    )
    assert one[-1].prompt.masks.shape == (1, 2, 1, 16, 24)
    torch.testing.assert_close(one[0].learnable.masks, three[0].learnable.masks[:, :, :1])  # before any exchange
    assert not torch.allclose(one[-1].learnable.embeddings, three[-1].learnable.embeddings[:, :, :1], atol=1e-3)


def test_permuting_frames_with_their_codes_permutes_outputs(network, scene):
    order = [2, 0, 1]
    turned = replace(
        scene,
        mask_features=scene.mask_features[:, order],
        sources=tuple(x[:, order] for x in scene.sources),
        codes=tuple(x[:, order] for x in scene.codes),
        frame_index=scene.frame_index[:, order],
    )
    a, b = (
        decode(network, scene, random_visual_prompts(network))[-1],
        decode(network, turned, random_visual_prompts(network))[-1],
    )
    for one, two in ((a.learnable, b.learnable), (a.prompt, b.prompt)):
        torch.testing.assert_close(two.masks, one.masks[:, :, order], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(two.classes, one.classes, atol=1e-5, rtol=1e-4)


# The heads.


def test_classes_by_hand():
    head = ClassHead(2, 2)
    with torch.no_grad():
        head.projection.weight.copy_(torch.eye(2))
        head.projection.bias.zero_()
        assert head.temperature.exp().item() == pytest.approx(1 / 0.07)
        head.temperature.fill_(math.log(2))
    embeddings = torch.tensor([[[[3.0, 4.0], [0.0, 2.0]]]])  # two frames: (0.6, 0.8) and (0, 1)
    concepts = torch.tensor([[5.0, 0.0], [0.0, 0.1]])
    logits = head.logits(head(embeddings), concepts)
    torch.testing.assert_close(logits, torch.tensor([[[2 * 0.3, 2 * 0.9]]]))


def test_frames_trade_mask_embeddings_in_training_only():
    heads = PredictionHeads(32, 8)
    queries, features = torch.randn(1, 2, 3, 32), torch.randn(1, 3, 32, 4, 4)
    plain = torch.einsum("bqtc,btchw->bqthw", heads.mask(heads.norm(queries)), features)
    out = heads.eval()(queries, features, 2, False)
    torch.testing.assert_close(out.learnable.masks, plain)
    torch.manual_seed(0)
    order = torch.randperm(3)
    torch.manual_seed(0)
    out = heads.train()(queries, features, 2, False)
    turned = torch.einsum("bqtc,btchw->bqthw", heads.mask(heads.norm(queries))[:, :, order], features)
    torch.testing.assert_close(out.learnable.masks, turned)
    assert order.tolist() != [0, 1, 2]


def test_averaged_masks_are_the_mean_with_the_most_similar_learnable_query():
    heads = PredictionHeads(32, 8).eval()
    queries, features = torch.randn(1, 3, 2, 32), torch.randn(1, 2, 32, 4, 4)
    queries[:, 2] = queries[:, 1] * 2  # the prompt query, after the norm, is learnable query 1
    alone, averaged = (heads(queries, features, 2, flag) for flag in (False, True))
    torch.testing.assert_close(averaged.learnable.masks, alone.learnable.masks)
    expected = (alone.prompt.masks + alone.learnable.masks[:, 1:]) / 2
    torch.testing.assert_close(averaged.prompt.masks, expected)
