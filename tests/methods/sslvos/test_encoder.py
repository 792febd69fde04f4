"""The spatial-semantic encoder: equations 1 to 3 by hand, deformable attention against another, the frozen ViT."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.deformable_detr.modeling_deformable_detr import MultiScaleDeformableAttention

from common.errors import InputError
from methods.sslvos.build import Parts, build_encoder
from methods.sslvos.encoders.deformable import DeformableAttention, deformable_read, grid_centres
from methods.sslvos.encoders.spatial_semantic import (
    ConvFFN,
    PyramidEncoder,
    SemanticEmbedding,
    SpatialBlock,
    SpatialSemanticEncoder,
)
from methods.sslvos.encoders.vit import ViT
from methods.sslvos.settings import AdapterSettings

SIZES = [(4, 6), (2, 3)]
CODE, PAPER = AdapterSettings(), AdapterSettings(roles="paper", residual="paper")


def identity(layer: nn.Linear) -> None:
    with torch.no_grad():
        layer.weight.copy_(torch.eye(len(layer.weight)))
        layer.bias.zero_()


# Deformable attention.


@pytest.mark.parametrize("sizes", [[(5, 7)], [(8, 6), (4, 3)], [(6, 6), (3, 3), (1, 2)]])
def test_deformable_read_equals_that_of_transformers(sizes):
    """Places beyond the maps too; gradients of values, places and weights."""
    generator = torch.Generator().manual_seed(len(sizes))
    total, heads, channels, queries, points = sum(h * w for h, w in sizes), 3, 4, 10, 4
    value = torch.randn(2, total, heads, channels, generator=generator)
    places = torch.rand(2, queries, heads, len(sizes), points, 2, generator=generator) * 1.6 - 0.3
    weights = torch.rand(2, queries, heads, len(sizes), points, generator=generator)
    starts = torch.tensor([0, *(h * w for h, w in sizes[:-1])]).cumsum(0)
    value, places, weights = (tensor.requires_grad_() for tensor in (value, places, weights))
    expected = MultiScaleDeformableAttention()(value, torch.tensor(sizes), sizes, starts, places, weights, 64)
    got = deformable_read(value, sizes, places, weights)
    torch.testing.assert_close(got, expected)
    inputs, towards = (value, places, weights), torch.randn(expected.shape, generator=generator)
    for mine, theirs in zip(*(torch.autograd.grad(out, inputs, towards) for out in (got, expected)), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def test_a_place_that_is_not_finite_shows_and_does_not_crash():
    """As an overflow in half precision gives: that head's answer is no number, the others' are."""
    places = torch.full((1, 3, 1, 1, 1, 2), 0.5)
    places[0, 1], places[0, 2] = float("nan"), float("inf")
    out = deformable_read(torch.ones(1, 4, 1, 2), [(2, 2)], places, torch.ones(1, 3, 1, 1, 1))
    assert out.isfinite().all(-1).tolist() == [[True, False, False]]


def test_centres_of_a_grid():
    assert grid_centres((2, 3)).tolist() == [
        pytest.approx(place)
        for place in [(1 / 6, 0.25), (0.5, 0.25), (5 / 6, 0.25), (1 / 6, 0.75), (0.5, 0.75), (5 / 6, 0.75)]
    ]


def test_heads_look_along_rays_at_first():
    """Four heads: right, down, left, up, one to three places away; a ramp in x is read at x, x + 2, x, x - 2."""
    attention = DeformableAttention(4, heads=4, points=3)
    identity(attention.value_proj)
    identity(attention.output_proj)
    ramp = torch.arange(9.0).expand(9, 9).reshape(1, 81, 1).expand(-1, -1, 4)
    out = attention(torch.randn(1, 81, 4), grid_centres((9, 9)), ramp, [(9, 9)])
    torch.testing.assert_close(out[0, 40], torch.tensor([6.0, 4, 2, 4]), atol=1e-5, rtol=0)


def test_offsets_are_in_places_of_the_level():
    """A head that looks one place to the right on a wide map and nowhere else."""
    attention = DeformableAttention(2, heads=1, points=1)
    identity(attention.value_proj)
    identity(attention.output_proj)
    values = torch.randn(1, 2 * 5, 2)
    out = attention(torch.zeros(1, 10, 2), grid_centres((2, 5)), values, [(2, 5)]).unflatten(1, (2, 5))
    maps = values.unflatten(1, (2, 5))
    torch.testing.assert_close(out[:, :, :4], maps[:, :, 1:])
    assert not out[:, :, 4].any()


def test_places_stay_exact_in_half_precision():
    """On a row of 1000 places bfloat16 could not tell eight neighbours apart."""
    attention = DeformableAttention(2, heads=1, points=1)
    with torch.no_grad():
        attention.sampling_offsets.bias.zero_()
    identity(attention.value_proj)
    identity(attention.output_proj)
    values = (torch.arange(1000) % 8).float().reshape(1, 1000, 1).expand(-1, -1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        out = attention(torch.zeros(1, 1000, 2), grid_centres((1, 1000)), values, [(1, 1000)])
    torch.testing.assert_close(out.float(), values, atol=0.02, rtol=0)


def test_heads_must_divide_the_channels():
    with pytest.raises(InputError, match="10 channels"):
        DeformableAttention(10, heads=4)


# Equations.


def test_equation_1_by_hand():
    """Two channels, one head, all projections the identity: LN(F) is ± (1, -1), and asks [CLS; mean token]."""
    embed = SemanticEmbedding(2, heads=1)
    with torch.no_grad():
        embed.attention.in_proj_weight.copy_(torch.eye(2).repeat(3, 1))
    identity(embed.attention.out_proj)
    x = torch.tensor([[[3.0, 1], [0, 4]]])
    tokens, cls = torch.tensor([[[1.0, 0], [3, 0], [2, 3]]]), torch.tensor([[0.0, 1]])
    mean = torch.tensor([2.0, 1])
    for query, out in zip(([1.0, -1], [-1.0, 1]), embed(x, tokens, cls)[0], strict=True):
        logits = [query[0] * k[0] + query[1] * k[1] for k in ([0, 1], [2, 1])]
        share = 1 / (1 + math.exp((logits[1] - logits[0]) / math.sqrt(2)))  # of CLS
        expected = torch.tensor(query) + share * cls[0] + (1 - share) * mean
        torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)


def blocks(settings: AdapterSettings) -> tuple[SpatialBlock, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    block = SpatialBlock(8, 2, settings)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    return block, torch.randn(2, 30, 8), torch.randn(2, 6, 8), torch.randn(2, 30, 8)


def test_equation_2_multi_scale_tokens_sample_the_vit():
    """With one point at no offset every token reads the ViT at its own place: fine ones between tokens."""
    block, x, vit, _ = blocks(AdapterSettings(points=1))
    with torch.no_grad():
        block.attention.sampling_offsets.weight.zero_()
        block.attention.sampling_offsets.bias.zero_()
    for layer in (block.attention.value_proj, block.attention.output_proj):
        identity(layer)
    got = block.read(x, vit, SIZES) - x
    known = block.vit_norm(vit)
    torch.testing.assert_close(got[:, 24:], known)
    maps = F.pad(known.transpose(1, 2).unflatten(2, (2, 3)), (1, 1, 1, 1))
    # four by six places lie at quarters between two by three: 9/16 of the own, 3/16 of two, 1/16 of the diagonal one
    fine = got[:, :24].transpose(1, 2).unflatten(2, (4, 6))
    expected = 9 / 16 * maps[..., 1, 1] + 3 / 16 * (maps[..., 1, 2] + maps[..., 2, 1]) + 1 / 16 * maps[..., 2, 2]
    torch.testing.assert_close(fine[..., 1, 1], expected)


def test_equation_2_as_printed_adds_to_stride_16_alone():
    block, x, vit, _ = blocks(AdapterSettings(roles="paper"))
    got = block.read(x, vit, SIZES) - x
    assert not got[:, :24].any()
    expected = block.attention(block.vit_norm(vit), grid_centres((2, 3)), block.norm(x), SIZES)
    torch.testing.assert_close(got[:, 24:], expected)


@pytest.mark.parametrize("settings", [CODE, PAPER])
def test_equation_3(settings):
    block, x, vit, before = blocks(settings)
    spatial = block.read(x, vit, SIZES)
    inner = block.ffn_norm(spatial) if settings is CODE else spatial + before
    torch.testing.assert_close(block(x, vit, SIZES, before), spatial + block.ffn(inner, SIZES))


def test_conv_ffn_by_hand():
    """Four channels of which the mean of the first is kept, a kernel that sums its neighbourhood, and back to all four.

    All ones: inner places see 9, the corners of both maps 4, borders 6; GELU leaves such numbers alone.
    """
    ffn = ConvFFN(4)
    with torch.no_grad():
        ffn.fc1.weight.copy_(torch.tensor([[1.0, 0, 0, 0]]))
        ffn.conv.weight.fill_(1)
        ffn.fc2.weight.copy_(torch.tensor([[1.0], [2], [0], [-1]]))
        for layer in (ffn.fc1, ffn.conv, ffn.fc2):
            layer.bias.zero_()
    out = ffn(torch.ones(1, 24 + 6, 4), SIZES)[0]
    line = [4.0, 6, 6, 6, 6, 4]
    inner = [6.0, 9, 9, 9, 9, 6]
    expected = torch.tensor([*line, *inner, *inner, *line, 4, 6, 4, 4, 6, 4])
    torch.testing.assert_close(out, expected[:, None] * torch.tensor([1.0, 2, 0, -1]), atol=1e-3, rtol=0)


def test_drop_path_leaves_out_the_ffn_of_whole_frames():
    block, x, vit, before = blocks(AdapterSettings(drop_path=0.5))
    x, vit, before = (t[:1].expand(32, -1, -1) for t in (x, vit, before))
    torch.manual_seed(0)
    extra = block.train()(x, vit, SIZES, before) - block.read(x, vit, SIZES)
    full = block.eval()(x, vit, SIZES, before) - block.read(x, vit, SIZES)
    dropped = ~extra.flatten(1).any(1)
    assert 4 < dropped.sum() < 28
    torch.testing.assert_close(extra[~dropped], 2 * full[~dropped], atol=1e-5, rtol=1e-4)


# The whole.


@pytest.fixture(scope="module")
def vit() -> ViT:
    torch.manual_seed(0)
    return ViT("nano")


@pytest.mark.parametrize("settings", [CODE, PAPER, AdapterSettings(extra=0)])
@pytest.mark.parametrize("semantic", [True, False])
def test_maps_of_the_encoder(vit, semantic, settings):
    encoder = SpatialSemanticEncoder(vit, semantic, settings, stem=8).eval()
    image = torch.randn(2, 3, 64, 96)
    assert [tuple(x.shape) for x in encoder(image)] == [(2, 96, 4, 6), (2, 96, 8, 12), (2, 96, 16, 24)]
    assert (len(encoder.semantic), len(encoder.spatial)) == (4 if semantic else 0, 4 + settings.extra)


@pytest.mark.parametrize("index", range(4))
def test_every_group_of_the_vit_is_used(vit, index, monkeypatch):
    """The last one by its block alone, the others by the heads too; CLS by equation 1."""
    encoder, image = SpatialSemanticEncoder(vit, stem=8).eval(), torch.randn(1, 3, 32, 32)
    for block in encoder.spatial:
        nn.init.normal_(block.attention.output_proj.weight)
    taps = vit(image)
    for part in range(2):
        changed = [list(tap) for tap in taps]
        changed[index][part] = changed[index][part] + 1 + torch.arange(96) % 5
        monkeypatch.setattr(vit, "forward", lambda image, taps=taps: taps)
        plain = encoder(image)
        monkeypatch.setattr(vit, "forward", lambda image, taps=changed: taps)
        other = encoder(image)
        assert (plain[0] - other[0]).abs().max() > 1e-4


def test_pyramid(vit):
    encoder = PyramidEncoder(vit, 32)
    assert [tuple(x.shape) for x in encoder(torch.randn(2, 3, 48, 80))] == [
        (2, 32, 3, 5),
        (2, 32, 6, 10),
        (2, 32, 12, 20),
    ]
    assert encoder.multiple == 16


@pytest.mark.parametrize("kind", ["full", "spatial", "pyramid"])
def test_a_frozen_vit_gets_no_gradient_and_no_update(kind):
    torch.manual_seed(0)
    encoder = build_encoder(Parts(encoder=kind)).train()
    before = {name: value.clone() for name, value in encoder.vit.state_dict().items()}
    assert not any(module.training for module in encoder.vit.modules())
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        torch.stack([x.square().mean() for x in encoder(torch.randn(2, 3, 64, 64))]).sum().backward()
        optimizer.step()
    assert all(parameter.grad is None for parameter in encoder.vit.parameters())
    assert all(torch.equal(value, before[name]) for name, value in encoder.vit.state_dict().items())


def test_a_vit_that_is_not_frozen_trains():
    encoder = build_encoder(Parts(encoder="pyramid", freeze_vit=False)).train()
    assert encoder.vit.training
    torch.stack([x.square().mean() for x in encoder(torch.randn(1, 3, 32, 32))]).sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_sizes_of_the_published_encoder():
    """108.9 M parameters, 22.2 M of them trainable, counted on the released structure."""
    with torch.device("meta"):
        encoder = SpatialSemanticEncoder(ViT("base"))
    trained = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    total = sum(p.numel() for p in encoder.parameters())
    assert trained / 1e6 == pytest.approx(22.2, abs=0.1)
    assert total / 1e6 == pytest.approx(108.9, abs=0.2)
