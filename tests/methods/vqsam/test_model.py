"""The network: the STT, the stages, what it is before training, and where gradients go."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from common.nn.sam2 import SAM2, Bank, Candidates, FrameFeatures
from methods.vqsam.model import Query, Settings, VQSAMNetwork
from methods.vqsam.stt import SpatialTemporalTransformer, space_time_encoding
from tests.support.lively import enliven, lively_sam2

SIDE, T = 64, 3
EASY = Settings(target_iou=0.0, divergence=0.0, distractor_iou=0.0)  # every frame is visible and qualifies


def vqsam(settings: Settings = EASY, seed: int = 2) -> VQSAMNetwork:
    torch.manual_seed(seed)
    return VQSAMNetwork(lively_sam2(image_size=SIDE, seed=seed), settings).eval()


@pytest.fixture(scope="module")
def core() -> SAM2:
    return lively_sam2(image_size=SIDE, seed=2)


@pytest.fixture(scope="module")
def scene(core: SAM2) -> tuple[FrameFeatures, Tensor, Query]:
    """Two clips of three frames; one target in the first and two in the second."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        features = core.encode(torch.randn(2 * T, 3, SIDE, SIDE, generator=generator))
        images = core.encode(torch.randn(3, 3, SIDE, SIDE, generator=generator))
        masks = torch.zeros(3, 1, SIDE, SIDE)
        for index in range(3):
            masks[index, :, 8 : 40 + 8 * index, 8:40] = 1
        query = VQSAMNetwork(core, EASY).encode_query(images, masks)
    return features, torch.tensor([0, 1, 1])[:, None] * T + torch.arange(T), query


def assert_equal(a: Candidates, b: Candidates, **tolerance: float) -> None:
    for name in ("logits", "ious", "score", "pointers"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), **(tolerance or {"atol": 0, "rtol": 0}))


def plain(core: SAM2, features: FrameFeatures, row: int, maps: list[Tensor], pointer: Tensor | None) -> Candidates:
    """SAM 2 itself on one frame: prompted memories, the pointer of a prompt one frame before."""
    bank = Bank(maps, [6] * len(maps), [] if pointer is None else [pointer], [] if pointer is None else [1.0])
    frame = features.select(torch.tensor([row]))
    return core.decode(core.read(frame, bank), frame)


# M_0.


@torch.no_grad()
def test_the_querys_memory_is_that_of_a_prompted_frame(core):
    image, mask = torch.randn(1, 3, SIDE, SIDE), torch.zeros(1, 1, SIDE, SIDE)
    mask[..., 10:30, 20:50] = 1
    features = core.encode(image)
    query = VQSAMNetwork(core, EASY).encode_query(features, mask)
    answer = core.take_mask(features, mask)
    assert torch.equal(query.memory, core.encode_memory(features, answer))
    assert torch.equal(query.pointer, answer.pointers[:, 0])


# Before training.


@torch.no_grad()
@pytest.mark.parametrize("pointer", [True, False])
def test_one_stage_is_sam2_on_the_querys_memory(core, scene, pointer):
    features, rows, query = scene
    model = VQSAMNetwork(core, replace(EASY, stages=1, query_pointer=pointer)).eval()
    (stage,) = model(features, rows[:1], Query(query.memory[:1], query.pointer[:1]))
    for frame in range(T):
        expected = plain(core, features, frame, [query.memory[:1]], query.pointer[:1] if pointer else None)
        assert_equal(stage.rows(torch.tensor([frame])), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_one_stage_is_exactly_sam2_on_the_same_batch(core, scene):
    features, rows, query = scene
    one = features.select(rows[0])
    bank = Bank([query.memory[:1].expand(T, -1, -1, -1)], [6], [query.pointer[:1].expand(T, -1)], [1.0])
    (stage,) = VQSAMNetwork(core, replace(EASY, stages=1)).eval()(
        features, rows[:1], Query(query.memory[:1], query.pointer[:1])
    )
    assert_equal(stage, core.decode(core.read(one, bank), one))


@torch.no_grad()
def test_second_stage_is_sam2_with_the_target_as_one_more_prompted_memory(core, scene):
    features, rows, query = scene
    first_query = Query(query.memory[:1], query.pointer[:1])
    model = VQSAMNetwork(core, replace(EASY, targets=1, distractors=0)).eval()
    first, second = model(features, rows[:1], first_query)
    frame = int(first.ious.max(1).values.argmax())
    chosen = core.encode_memory(features.select(torch.tensor([frame])), first.rows(torch.tensor([frame])).best())
    for other in range(T):
        expected = plain(core, features, other, [query.memory[:1], chosen], query.pointer[:1])
        assert_equal(second.rows(torch.tensor([other])), expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(second.logits, first.logits, atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize(("combine", "pointer"), [("concat", False), ("sum", False), ("sum", True)])
def test_a_distractor_changes_nothing_before_training(core, scene, combine, pointer):
    """A map that stands in memory twice is read as if it stood there once; only a pointer has less weight beside it."""
    features, rows, query = scene
    settings = replace(EASY, targets=0, combine=combine, query_pointer=pointer)
    first, second = VQSAMNetwork(core, settings).eval()(features, rows, query)
    assert_equal(second, first, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_with_nothing_found_every_stage_is_the_first(core, scene):
    features, rows, query = scene
    stages = VQSAMNetwork(core, replace(EASY, stages=3, target_iou=1.0, distractor_iou=1.0)).eval()(
        features, rows, query
    )
    assert len(stages) == 3
    assert_equal(stages[1], stages[0])
    assert_equal(stages[2], stages[0])


# Stages.


@torch.no_grad()
def test_queries_of_a_batch_do_not_meet(core, scene, monkeypatch):
    """Each has memories of its own, of other numbers and kinds than the others."""
    features, rows, query = scene
    ious = torch.rand(3 * T, 3, generator=torch.Generator().manual_seed(1))
    model = VQSAMNetwork(core, replace(EASY, target_iou=float(ious[:T].max()), divergence=0.3)).eval()
    enliven(model.generate, seed=4)
    decode, given = core.decode, {}

    def decoded(embedding, frames, *rest, **how):
        answer = decode(embedding, frames, *rest, **how)
        return replace(answer, ious=given["ious"])

    monkeypatch.setattr(core, "decode", decoded)
    given["ious"] = ious
    together = model(features, rows, query)[1]
    for q in range(3):
        given["ious"] = ious[q * T : (q + 1) * T]
        alone = model(features, rows[q : q + 1], Query(query.memory[q : q + 1], query.pointer[q : q + 1]))[1]
        assert_equal(together.rows(torch.arange(q * T, (q + 1) * T)), alone, atol=1e-4, rtol=1e-4)
    # the first query finds no target and so reads fewer maps than the others
    layouts = [len(m) for m in model._next(features.select(rows.flatten()), replace(together, ious=ious), query)]
    assert layouts[0] < max(layouts)


@torch.no_grad()
def test_every_stage_starts_from_the_querys_memory(core, scene, monkeypatch):
    """Eq. (5): always M_0, never the memory of the stage before."""
    features, rows, query = scene
    model = VQSAMNetwork(core, replace(EASY, stages=3)).eval()
    seen = []
    generate = model.generate.forward
    monkeypatch.setattr(model.generate, "forward", lambda *kinds: seen.append(kinds[0]) or generate(*kinds))
    model(features, rows[:1], Query(query.memory[:1], query.pointer[:1]))
    assert len(seen) == 2
    assert all(torch.equal(memory, query.memory[:1]) for memory in seen)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["distractor", "target"])
def test_distractor_feature_is_of_its_mask_or_of_the_targets(core, scene, monkeypatch, kind):
    features, rows, query = scene
    model = VQSAMNetwork(core, replace(EASY, targets=0, distractor_feature=kind)).eval()
    seen = []
    encode = core.encode_memory
    monkeypatch.setattr(core, "encode_memory", lambda frames, chosen: seen.append(chosen) or encode(frames, chosen))
    first, _ = model(features, rows[:1], Query(query.memory[:1], query.pointer[:1]))
    (chosen,) = seen
    best = first.best().logits
    is_best = any(torch.equal(chosen.logits[0], best[frame]) for frame in range(T))
    assert is_best == (kind == "target")


# STT.


def lively_stt(**how) -> SpatialTemporalTransformer:
    torch.manual_seed(3)
    stt = SpatialTemporalTransformer(16, heads=4, **how)
    enliven(stt, seed=3)
    return stt


@torch.no_grad()
def test_stt_starts_as_the_identity():
    x = torch.randn(2, 3, 16, 4, 5)
    assert torch.equal(SpatialTemporalTransformer(16, heads=4)(x, torch.randn(1, 20, 16)), x)
    assert torch.equal(SpatialTemporalTransformer(16, layers=0)(x, torch.randn(1, 20, 16)), x)


@torch.no_grad()
def test_stt_attends_over_space_and_time_as_written_down():
    """One layer with plain softmax attention, head by head."""
    stt, x, position = lively_stt(layers=1), torch.randn(1, 2, 16, 2, 3), torch.randn(1, 6, 16)
    (layer,) = stt.layers
    tokens = torch.stack([x[0, t, :, i, j] for t in range(2) for i in range(2) for j in range(3)])
    normed = layer.norm1(tokens)
    placed = normed + space_time_encoding(position, 2)[0]
    heads = []
    for head in range(4):
        part = slice(4 * head, 4 * head + 4)
        weights = (layer.query(placed)[:, part] @ layer.key(placed)[:, part].T / 2).softmax(1)  # sqrt(4)
        heads.append(weights @ layer.value(normed)[:, part])
    tokens = tokens + layer.out(torch.cat(heads, 1))
    tokens = tokens + layer.narrow(layer.widen(layer.norm2(tokens)).relu())
    expected = torch.stack([tokens[t * 6 : t * 6 + 6].T.reshape(16, 2, 3) for t in range(2)])[None]
    torch.testing.assert_close(stt(x, position), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_stt_mixes_frames_of_a_clip_and_not_clips():
    stt, position = lively_stt(), torch.randn(1, 6, 16)
    x = torch.randn(2, 3, 16, 2, 3)
    changed = x.clone()
    changed[0, 2, :, 1, 1] += torch.randn(16)
    before, after = stt(x, position), stt(changed, position)
    moved = (before - after).abs().amax((2, 3, 4))
    assert (moved[0] > 1e-4).all()
    assert (moved[1] == 0).all()


@torch.no_grad()
def test_stt_knows_the_order_of_frames():
    stt, x, position = lively_stt(), torch.randn(1, 3, 16, 2, 3), torch.randn(1, 6, 16)
    assert not torch.allclose(stt(x.flip(1), position).flip(1), stt(x, position), atol=1e-3)


def test_places_in_space_and_time():
    position = torch.arange(8.0).view(1, 2, 4)
    got = space_time_encoding(position, 3)
    assert got.shape == (1, 6, 4)
    assert torch.equal(got[0, :2], position[0] + torch.tensor([0.0, 0.0, 1.0, 1.0]))  # sin 0, cos 0
    second = torch.tensor([1.0, 0.01]).sin().tolist() + torch.tensor([1.0, 0.01]).cos().tolist()
    torch.testing.assert_close(got[0, 2:4], position[0] + torch.tensor(second))


def test_recomputing_activations_gives_the_same_gradients():
    stt, position = lively_stt(), torch.randn(1, 6, 16)
    gradients = []
    for checkpointed in (False, True):
        x = torch.ones(1, 2, 16, 2, 3, requires_grad=True)
        stt(x, position, checkpointed).sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients)


# Gradients.


def gradient(model: VQSAMNetwork, part: str) -> float:
    return sum(
        float(p.grad.abs().sum()) for n, p in model.named_parameters() if p.grad is not None and n.startswith(part)
    )


def test_gradients_run_back_through_the_stages(scene):
    """The last stage alone teaches the memory generator, and the first stage by way of what it put into memory."""
    features, rows, query = scene
    model = vqsam()
    enliven(model.generate, seed=4)
    enliven(model.stt, seed=4)
    stages = model(features, rows[:1], Query(query.memory[:1], query.pointer[:1]))
    (first,) = torch.autograd.grad(stages[1].logits.sum(), stages[0].logits, retain_graph=True)
    assert first.abs().sum() > 0
    stages[1].logits.sum().backward()
    for part in ("stt.layers.0", "stt.layers.1", "generate.target", "generate.distractor", "generate.weigh"):
        assert gradient(model, part) > 0, part
    assert gradient(model, "sam2.net.memory_encoder") > 0


def test_the_first_stage_does_not_teach_the_memory_generator(scene):
    features, rows, query = scene
    model = vqsam()
    model(features, rows[:1], Query(query.memory[:1], query.pointer[:1]))[0].logits.sum().backward()
    assert gradient(model, "generate") == 0
    assert gradient(model, "stt") > 0


def test_new_parts_learn_from_the_first_step_on(scene):
    """Parts that start at zero must not stay there."""
    features, rows, query = scene
    model = vqsam()
    stages = model(features, rows[:1], Query(query.memory[:1], query.pointer[:1]))
    stages[1].logits.square().sum().backward()
    for name, parameter in [*model.stt.named_parameters(), *model.generate.named_parameters()]:
        if name.endswith(("out.weight", "narrow.weight", "target.2.weight", "distractor.2.weight", "weigh.2.weight")):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
