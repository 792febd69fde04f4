"""The core's own passes through transformers' modules against those modules, and the CPU's fast products."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common.nn import fast
from common.nn.sam2 import SAM2, Bank
from tests.support.lively import lively_sam2

CLOSE = {"atol": 2e-5, "rtol": 2e-5}


@pytest.fixture(scope="module")
def model() -> SAM2:
    return lively_sam2(image_size=64)


def random_bank(model: SAM2, maps: int, pointers: int, batch: int = 1, weighed: bool = False) -> Bank:
    grid, width = model.image_size // 16, model.net.hidden_dim
    return Bank(
        maps=[torch.randn(batch, 64, grid, grid) for _ in range(maps)],
        slots=[6, *range(maps - 2, -1, -1)][:maps],
        pointers=[torch.randn(batch, width) for _ in range(pointers)],
        offsets=[float(d) for d in range(pointers)],
        map_weights=torch.rand(batch, maps) + 0.5 if weighed else None,
        pointer_weights=torch.rand(batch, pointers) + 0.5 if weighed else None,
    )


def theirs(model: SAM2, embedding: torch.Tensor, bank: Bank) -> torch.Tensor:
    """transformers' memory attention, batch 1, on tokens put together here."""
    net, grid = model.net, model.image_size // 16
    sine = net.memory_encoder.position_encoding(torch.Size((1, 64, grid, grid)), "cpu", torch.float32)
    sine = sine.flatten(2).permute(2, 0, 1)
    tokens = [m.flatten(2).permute(2, 0, 1) for m in bank.maps]
    positions = [sine + net.memory_temporal_positional_encoding[slot].view(1, 1, 64) for slot in bank.slots]
    if bank.pointers:
        split = bank.pointers[0].shape[1] // 64
        tokens.append(torch.stack(bank.pointers).view(-1, 1, split, 64).permute(0, 2, 1, 3).flatten(0, 1))
        half = net.hidden_dim // 2
        angle = torch.tensor(bank.offsets)[:, None] / 15
        angle = angle / 10000 ** (2 * (torch.arange(half) // 2) / half)
        code = net.temporal_positional_encoding_projection_layer(torch.cat([angle.sin(), angle.cos()], 1))
        positions.append(code[:, None].repeat_interleave(split, 0))
    frame = net.vision_encoder.neck.position_encoding(embedding.shape, "cpu", torch.float32)
    out = net.memory_attention(
        current_vision_features=embedding.flatten(2).permute(2, 0, 1),
        current_vision_position_embeddings=frame.flatten(2).permute(2, 0, 1),
        memory=torch.cat(tokens),
        memory_posision_embeddings=torch.cat(positions),
        num_object_pointer_tokens=len(bank.pointers) * (split if bank.pointers else 0),
    )
    return out.squeeze().t().view(embedding.shape)


def features_of(model: SAM2, batch: int = 1):
    return model.encode(torch.randn(batch, 3, model.image_size, model.image_size))


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize(("maps", "pointers"), [(1, 1), (7, 16), (1, 0), (3, 2)])
def test_memory_attention_is_that_of_transformers(model, maps, pointers, gradients):
    with torch.set_grad_enabled(gradients):
        features, bank = features_of(model), random_bank(model, maps, pointers)
        got = model.read(features, bank)
        torch.testing.assert_close(got, theirs(model, features.embedding, bank), **CLOSE)
        assert got.requires_grad == gradients


def test_memory_attention_of_the_published_width_through_onednn(monkeypatch):
    """Width 256, 4 layers, pointers of four tokens, and enough of them for oneDNN to be worthwhile."""
    model = lively_sam2(image_size=256, size="tiny")
    copies, real = [], torch.Tensor.to_mkldnn
    monkeypatch.setattr(torch.Tensor, "to_mkldnn", lambda self, *args: copies.append(1) or real(self, *args))
    with torch.inference_mode():
        features, bank = features_of(model), random_bank(model, 7, 16)
        got = model.read(features, bank)
        torch.testing.assert_close(got, theirs(model, features.embedding, bank), atol=1e-4, rtol=1e-4)
    assert copies or not torch.backends.mkldnn.is_available()


def test_gradients_are_those_of_transformers(model):
    features, bank = features_of(model), random_bank(model, 2, 3)
    weights = list(model.net.memory_attention.parameters())
    target = torch.randn_like(features.embedding)
    grads = []
    for out in (model.read(features, bank), theirs(model, features.embedding, bank)):
        grads.append(torch.autograd.grad((out * target).sum(), weights, retain_graph=True))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("weighed", [False, True])
def test_a_batch_of_banks_equals_one_by_one(model, weighed):
    with torch.inference_mode():
        features = features_of(model)
        bank = random_bank(model, 4, 5, batch=3, weighed=weighed)
        rows = [
            Bank(
                [m[b : b + 1] for m in bank.maps],
                bank.slots,
                [p[b : b + 1] for p in bank.pointers],
                bank.offsets,
                bank.map_weights[b : b + 1] if bank.map_weights is not None else None,
                bank.pointer_weights[b : b + 1] if bank.pointer_weights is not None else None,
            )
            for b in range(3)
        ]
        one_by_one = torch.cat([model.read(features, row) for row in rows])
        torch.testing.assert_close(model.read(features, bank), one_by_one, **CLOSE)
        torch.testing.assert_close(model.read_many(features, rows), one_by_one, **CLOSE)
        assert (one_by_one[0] - one_by_one[1]).abs().max() > 0.1


def test_banks_of_other_layouts_are_read_side_by_side(model):
    with torch.inference_mode():
        features = features_of(model)
        shapes = [(1, 1, False), (3, 2, True), (1, 1, False), (3, 2, False), (3, 4, True)]
        banks = [random_bank(model, maps, pointers, weighed=weighed) for maps, pointers, weighed in shapes]
        banks.append(random_bank(model, 3, 2))
        banks[-1].slots = [6, 5, 0]
        got = model.read_many(features, banks)
        for row, bank in enumerate(banks):
            torch.testing.assert_close(got[row : row + 1], model.read(features, bank), **CLOSE)


def test_weights_scale_memory_and_position_before_the_key_projection(model):
    """Weight w on all keys = w times the key projection's matrix; values stay."""
    with torch.inference_mode():
        features, bank = features_of(model), random_bank(model, 3, 2)
        bank.map_weights, bank.pointer_weights = torch.full((1, 3), 1.3), torch.full((1, 2), 1.3)
        weighed = model.read(features, bank)
        bank.map_weights = bank.pointer_weights = None
        plain = model.read(features, bank)
        layers = model.net.memory_attention.layers
        for layer in layers:
            layer.cross_attn_image.k_proj.weight *= 1.3
        scaled = model.read(features, bank)
        for layer in layers:
            layer.cross_attn_image.k_proj.weight /= 1.3
    torch.testing.assert_close(weighed, scaled, **CLOSE)
    assert (weighed - plain).abs().max() > 1e-2


def test_frames_of_a_batch_read_each_their_own_bank(model):
    with torch.inference_mode():
        features, bank = features_of(model, 2), random_bank(model, 2, 2, batch=2)
        both = model.read(features, bank)
        for b in range(2):
            row = torch.tensor([b])
            alone = Bank([m[row] for m in bank.maps], bank.slots, [p[row] for p in bank.pointers], bank.offsets)
            torch.testing.assert_close(both[row], model.read(features.select(row), alone), **CLOSE)


@pytest.mark.parametrize("side", [64, 96, 128])
@pytest.mark.parametrize("gradients", [False, True])
def test_image_encoder_is_that_of_transformers(side, gradients):
    """Sides whose grids do not fill the windows too; the decoder's reductions are put on afterwards."""
    model = lively_sam2(image_size=side)
    images = torch.randn(2, 3, side, side)
    with torch.set_grad_enabled(gradients):
        got = model.encode(images)
        fine, middle, coarse = model.net.vision_encoder(images).fpn_hidden_states
        decoder = model.net.mask_decoder
        torch.testing.assert_close(got.embedding, coarse, **CLOSE)
        torch.testing.assert_close(got.fine[0], decoder.conv_s0(fine), **CLOSE)
        torch.testing.assert_close(got.fine[1], decoder.conv_s1(middle), **CLOSE)


def test_published_image_encoder_is_that_of_transformers():
    model = lively_sam2(image_size=224, size="tiny")
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        got, expected = model.encode(images).embedding, model.net.vision_encoder(images).fpn_hidden_states[2]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


# Products of oneDNN.


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(2, 3, 8), (700, 160), (2, 300, 160)])
def test_linear(shape, bias):
    layer, x = nn.Linear(shape[-1], 192, bias), torch.randn(*shape)
    with torch.inference_mode():
        torch.testing.assert_close(fast.linear(layer, x), layer(x), **CLOSE)
    strided = torch.randn(*shape[:-2], shape[-1], shape[-2]).mT
    with torch.no_grad():
        torch.testing.assert_close(fast.linear(layer, strided), layer(strided), **CLOSE)


def test_linear_keeps_gradients_and_autocast():
    layer, x = nn.Linear(160, 192), torch.randn(700, 160)
    fast.linear(layer, x).sum().backward()
    assert layer.weight.grad is not None
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert fast.linear(layer, x).dtype == torch.bfloat16


@pytest.mark.parametrize(("n", "m"), [(5, 7), (300, 900), (700, 300)])
def test_attend(n, m):
    """Small: the ordinary way; large: blocks of queries, the last one short."""
    query, key, value = torch.randn(2, n, 64), torch.randn(2, m, 64), torch.randn(2, m, 24)
    expected = F.scaled_dot_product_attention(query, key, value, scale=0.2)
    with torch.inference_mode():
        torch.testing.assert_close(fast.attend(query, key, value, 0.2), expected, **CLOSE)
        shared = query[:1].expand(2, -1, -1)
        expected = F.scaled_dot_product_attention(shared, key, value, scale=0.2)
        torch.testing.assert_close(fast.attend(shared, key, value, 0.2), expected, **CLOSE)


def test_large_cases_do_go_to_onednn(monkeypatch):
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    called = []
    real = torch.Tensor.to_mkldnn
    monkeypatch.setattr(torch.Tensor, "to_mkldnn", lambda self, *args: called.append(1) or real(self, *args))
    with torch.inference_mode():
        fast.linear(nn.Linear(8, 8), torch.randn(4, 8))
        fast.attend(*(torch.randn(1, 5, 8) for _ in range(3)), 1.0)
        assert not called
        fast.linear(nn.Linear(160, 192), torch.randn(700, 160))
        assert len(called) == 3
        fast.attend(torch.randn(1, 600, 64), torch.randn(1, 600, 64), torch.randn(1, 600, 8), 1.0)
        assert len(called) == 3 + 2 + 2 * 3
