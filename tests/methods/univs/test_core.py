"""UniVS's decoder: who reads whom, where ProCA stands, masked attention, codes of places and times, heads."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from common.errors import InputError
from methods.univs.network.attention import Attention
from methods.univs.network.decoder import readable
from methods.univs.network.heads import ClassHead, Heads, Outputs, Predictions
from methods.univs.network.model import UniVSNetwork
from methods.univs.network.positions import grid_code, place_code, time_code
from methods.univs.network.prompts import PromptTokens, VisualTokens
from methods.univs.network.separated import SeparatedSelfAttention
from methods.univs.settings import UniVSSettings, preset

FRAMES = (2, 3, 7)


@pytest.fixture(scope="module")
def core() -> UniVSNetwork:
    torch.manual_seed(0)
    return UniVSNetwork(preset(queries=6)).eval()


@pytest.fixture(scope="module")
def scene(core):
    frames = torch.rand(3, 3, 50, 70, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return core.scene(core.encode(frames), torch.tensor([FRAMES]))


def visual(core: UniVSNetwork, targets: int = 2, tokens: int = 5, seed: int = 0) -> PromptTokens:
    generator = torch.Generator().manual_seed(seed)
    shape = (1, targets, 1, tokens, core.settings.hidden)
    return core.visual_prompts(
        VisualTokens(torch.randn(shape, generator=generator), torch.randn(shape, generator=generator))
    )


def other(prompts: PromptTokens, target: int, seed: int = 9) -> PromptTokens:
    """The same prompts, but for one target's tokens, query and codes."""
    generator, parts = torch.Generator().manual_seed(seed), {}
    for name in ("query", "query_position", "content", "position"):
        value = getattr(prompts, name).clone()
        value[:, target] = torch.randn(value[:, target].shape, generator=generator)
        parts[name] = value
    return replace(prompts, **parts)


def decode(core: UniVSNetwork, scene, prompts, mode: str | None = None) -> list[Outputs]:
    before = core.decoder.settings
    core.decoder.settings = replace(before, self_attention=mode or before.self_attention)
    try:
        with torch.inference_mode():
            return core.decode(scene, prompts)
    finally:
        core.decoder.settings = before


def same(a: Predictions, b: Predictions, rows: slice = slice(None)) -> bool:
    names = ("masks", "classes", "embeddings")
    return all(torch.equal(getattr(a, name)[:, rows], getattr(b, name)[:, rows]) for name in names)


# Separated self-attention, equation 4.


@pytest.mark.parametrize("mode", ["sep", "sep-blocked", "sep-l2p"])
def test_prompts_leave_learnable_queries_bit_identical(core, scene, mode):
    prompts = visual(core)
    before, after = (decode(core, scene, each, mode) for each in (prompts, other(prompts, 1)))
    assert all(same(a.learnable, b.learnable) for a, b in zip(before, after, strict=True))
    assert not same(before[-1].prompt, after[-1].prompt)


def test_without_separation_they_do_not(core, scene):
    prompts = visual(core)
    before, after = (decode(core, scene, each, "all") for each in (prompts, other(prompts, 1)))
    assert not same(before[-1].learnable, after[-1].learnable)


@pytest.mark.parametrize(("mode", "apart"), [("sep", False), ("sep-blocked", True), ("sep-l2p", False)])
def test_only_blocked_targets_do_not_see_each_other(core, scene, mode, apart):
    prompts = visual(core)
    before, after = (decode(core, scene, each, mode) for each in (prompts, other(prompts, 1)))
    assert same(before[-1].prompt, after[-1].prompt, slice(0, 1)) == apart
    assert same(before[0].prompt, after[0].prompt, slice(0, 1))  # ProCA alone never mixes targets


def test_expressions_are_blocked(core, scene):
    text = torch.randn(1, 2, 5, core.settings.text.outputs, generator=torch.Generator().manual_seed(2))
    changed = text.clone()
    changed[:, 1] += 1
    before, after = (
        decode(core, scene, core.expression_prompts(scene, each), mode)
        for each, mode in ((text, "sep"), (changed, "sep-blocked"))
    )
    assert same(before[-1].prompt, after[-1].prompt, slice(0, 1))
    assert not same(before[-1].prompt, after[-1].prompt, slice(1, 2))


def test_padding_rows_are_read_by_nobody(core, scene):
    prompts = visual(core, targets=3)
    padded = replace(prompts, valid=torch.tensor([[True, True, False]]))
    first, second = decode(core, scene, padded), decode(core, scene, other(padded, 2))
    assert same(first[-1].prompt, second[-1].prompt, slice(0, 2))
    assert first[-1].prompt.masks.isfinite().all()
    names = ("query", "query_position", "content", "position")
    shorter = replace(prompts, **{name: getattr(prompts, name)[:, :2] for name in names})
    expected = decode(core, scene, shorter)[-1].prompt.embeddings
    torch.testing.assert_close(first[-1].prompt.embeddings[:, :2], expected, atol=1e-5, rtol=1e-5)


def test_self_attention_by_hand():
    """One channel, unit projections: a query's answer is the softmax-weighted mean of what it may read."""
    layer = SeparatedSelfAttention(1, 1).eval()
    layer.norm = nn.Identity()
    with torch.no_grad():
        layer.attention.in_proj_weight.fill_(1.0)
        layer.attention.out_proj.weight.fill_(1.0)
        layer.attention.out_proj.bias.zero_()
    x = torch.tensor([[[[0.0], [1.0]], [[2.0], [-1.0]], [[0.5], [0.3]]]])  # one learnable and two prompt queries, T = 2
    code = torch.zeros_like(x)

    def answer(query: float, read: list[float]) -> float:
        weights = [math.exp(query * key) for key in read]
        return query + sum(w * v for w, v in zip(weights, read, strict=True)) / sum(weights)

    prompts = [2.0, -1.0, 0.5, 0.3]
    for mode, read in (("sep", prompts), ("sep-l2p", [0.0, 1.0, *prompts]), ("sep-blocked", [2.0, -1.0])):
        out = layer(x, code, 1, mode).flatten().tolist()
        assert out[0] == pytest.approx(0.5, abs=1e-6)  # 0 weighs both its copies alike: 0 + (0 + 1) / 2
        assert out[1] == pytest.approx(answer(1.0, [0.0, 1.0]), abs=1e-6)
        assert out[2] == pytest.approx(answer(2.0, read), abs=1e-6)
        assert out[3] == pytest.approx(answer(-1.0, read), abs=1e-6)
    everything = layer(x, code, 1, "all").flatten().tolist()
    assert everything[1] == pytest.approx(answer(1.0, [0.0, 1.0, *prompts]), abs=1e-6)


def test_attention_is_torchs():
    ours, theirs = Attention(8, 2), nn.MultiheadAttention(8, 2, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    query, memory = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    mask = torch.rand(2, 1, 3, 5) > 0.3
    mask[..., 0] = True
    expected = theirs(query, memory, memory, attn_mask=~mask[:, 0].repeat_interleave(2, 0))[0]
    torch.testing.assert_close(ours(query, memory, memory, mask), expected, atol=1e-6, rtol=1e-5)


# The layer.


def test_order_of_the_layer(core, scene, monkeypatch):
    """ProCA #0 comes before everything, the later ones before the image; scales go 32, 16, 8."""
    calls: list[str] = []
    for index, layer in enumerate(core.decoder.layers):
        for name in ("proca", "cross", "exchange", "mlp"):
            module = getattr(layer, name)

            def spy(*args, _run=module.forward, _name=f"{name}{index}", **options):
                calls.append(_name if "cross" not in _name else f"{_name}:{args[1].shape[1]}")
                return _run(*args, **options)

            monkeypatch.setattr(module, "forward", spy)
    run = core.decoder.heads.forward
    monkeypatch.setattr(core.decoder.heads, "forward", lambda *a: calls.append("heads") or run(*a))
    outputs = decode(core, scene, visual(core))
    cells = [2 * 3, 4 * 6, 8 * 12]
    expected = ["proca0", "heads"]
    for index in range(3):
        expected += [f"proca{index}"] if index else []
        expected += [f"cross{index}:{cells[index]}", f"exchange{index}", f"mlp{index}", "heads"]
    assert calls == expected
    assert len(outputs) == 4


def test_position_of_a_prompt_is_what_the_first_proca_made_of_it(core, scene, monkeypatch):
    seen = []
    layer = core.decoder.layers[0]
    run = layer.exchange.forward
    monkeypatch.setattr(layer.exchange, "forward", lambda x, code, *a: seen.append(code) or run(x, code, *a))
    prompts, frames = visual(core), len(FRAMES)
    decode(core, scene, prompts)
    query = prompts.query.expand(-1, -1, frames, -1)
    with torch.inference_mode():
        expected = layer.proca(query, prompts.query_position.expand_as(query), prompts)
    assert torch.equal(seen[0][:, 6:], expected)
    assert torch.equal(seen[0][0, :6, 1], core.decoder.query_code)


def test_without_proca_a_prompt_keeps_its_position(scene, monkeypatch):
    torch.manual_seed(0)
    core = UniVSNetwork(preset(queries=6, proca=False)).eval()
    assert not any("proca" in name for name in core.state_dict())
    seen = []
    layer = core.decoder.layers[0].exchange
    run = layer.forward
    monkeypatch.setattr(layer, "forward", lambda x, code, *a: seen.append(code) or run(x, code, *a))
    prompts = visual(core)
    decode(core, scene, prompts)
    assert torch.equal(seen[0][:, 6:, 0], prompts.query_position[:, :, 0])


def test_a_query_looks_inside_its_mask_or_everywhere():
    masks = torch.full((1, 2, 1, 4, 8), -1.0)
    masks[0, 0, 0, :, :4] = 1.0
    empty = Predictions(masks[:, :0], masks[:, :0], masks[:, :0])
    out = readable(Outputs(Predictions(masks, masks, masks), empty), (2, 4))
    assert out.shape == (1, 1, 2, 8)
    assert out[0, 0, 0].tolist() == [True, True, False, False] * 2
    assert out[0, 0, 1].all()


# Time.


def test_one_frame_and_three_share_weights(core, scene):
    """A clip of one frame runs, and is not what the same frame is among three."""
    single = replace(
        scene,
        mask=scene.mask[:, :1],
        sources=tuple(x[:, :1] for x in scene.sources),
        codes=tuple(x[:, :1] for x in scene.codes),
        time_code=scene.time_code[:, :1],
        frame_index=scene.frame_index[:, :1],
    )
    one, three = decode(core, single, visual(core)), decode(core, scene, visual(core))
    assert one[-1].prompt.masks.shape == (1, 2, 1, 16, 24)
    torch.testing.assert_close(one[0].learnable.masks, three[0].learnable.masks[:, :, :1])  # before any exchange
    assert not torch.allclose(one[-1].learnable.embeddings, three[-1].learnable.embeddings[:, :, :1], atol=1e-3)


def test_permuting_frames_with_their_codes_permutes_outputs(core, scene):
    order = [2, 0, 1]
    turned = replace(
        scene,
        mask=scene.mask[:, order],
        sources=tuple(x[:, order] for x in scene.sources),
        codes=tuple(x[:, order] for x in scene.codes),
        frame_index=scene.frame_index[:, order],
    )
    a, b = decode(core, scene, visual(core))[-1], decode(core, turned, visual(core))[-1]
    for one, two in ((a.learnable, b.learnable), (a.prompt, b.prompt)):
        torch.testing.assert_close(two.masks, one.masks[:, :, order], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(two.classes, one.classes, atol=1e-5, rtol=1e-4)


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


# Heads.


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
    heads = Heads(32, 8)
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


def test_paired_masks_are_the_mean_with_the_most_similar_learnable_query():
    heads = Heads(32, 8).eval()
    queries, features = torch.randn(1, 3, 2, 32), torch.randn(1, 2, 32, 4, 4)
    queries[:, 2] = queries[:, 1] * 2  # the prompt query, after the norm, is learnable query 1
    alone, paired = (heads(queries, features, 2, flag) for flag in (False, True))
    torch.testing.assert_close(paired.learnable.masks, alone.learnable.masks)
    expected = (alone.prompt.masks + alone.learnable.masks[:, 1:]) / 2
    torch.testing.assert_close(paired.prompt.masks, expected)


# Frames.


@pytest.mark.parametrize("size", [(1, 1), (7, 100), (64, 64)])
def test_any_size_is_padded_to_a_multiple_of_32(core, size):
    with torch.inference_mode():
        scene = core.scene(core.encode(torch.rand(1, 3, *size)), torch.tensor([[0]]))
        (output,) = core.decode(scene, every=False)
    padded = tuple(-(-side // 32) * 32 for side in size)
    assert scene.padded == padded
    assert scene.size == size
    assert output.learnable.masks.shape == (1, 6, 1, padded[0] // 4, padded[1] // 4)
    assert output.prompt.masks.shape[1] == 0


def test_frames_are_encoded_each_by_itself(core):
    frames = torch.rand(3, 3, 40, 40)
    with torch.inference_mode():
        together, alone = core.encode(frames), core.encode(frames[1:2])
    torch.testing.assert_close(together[1:2].mask, alone.mask, atol=1e-5, rtol=1e-4)
    joined = type(together).cat([together[:1], together[1:]])
    assert len(joined.mask) == 3
    assert all(torch.equal(a, b) for a, b in zip(joined.maps, together.maps, strict=True))


def test_half_precision(core, scene):
    frames = torch.rand(3, 3, 50, 70)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        clip = core.scene(core.encode(frames), torch.tensor([FRAMES]))
        text = core.text.expressions(["the red one"])[None]
        outputs = [core.decode(clip, each)[-1] for each in (visual(core), core.expression_prompts(clip, text))]
    assert clip.mask.dtype == torch.float32  # the pixel decoder is never halved
    assert all(part.masks.isfinite().all() for output in outputs for part in (output.learnable, output.prompt))


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    core = UniVSNetwork(preset(queries=4, layers=3)).train()
    scene = core.scene(core.encode(torch.rand(2, 3, 64, 64)), torch.tensor([[0, 1]]))
    total = torch.zeros(())
    concepts = core.concepts(["cat", "dog"])
    text = core.text.expressions(["the left one"])[None]
    kinds = (visual(core), core.category_prompts(scene, concepts[None]), core.expression_prompts(scene, text))
    for prompts in kinds:
        for output in core.decode(scene, prompts):
            for part in (output.learnable, output.prompt):
                total = total + part.masks.square().mean() + core.class_logits(part.classes, concepts).square().mean()
    total.backward()
    without = {name for name, value in core.named_parameters() if value.grad is None or not value.grad.any()}
    # deformable attention starts out the same wherever it is asked from: codes matter after the first step
    assert without == {"pixels.body.level_embed"}


@pytest.mark.parametrize(
    ("change", "said"), [({"hidden": 80}, "hidden is 80"), ({"heads": 7}, "7 heads"), ({"layers": 0}, "at least 1")]
)
def test_settings_that_do_not_fit(change, said):
    with pytest.raises(InputError, match=said):
        replace(UniVSSettings(), **change)
