"""ViT-Adapter and ViT-CoMer: what goes into the ViT and what comes back, by hand; the frozen ViT."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from common.errors import InputError
from methods.sslvos.build import Parts, build_encoder
from methods.sslvos.encoders.bidirectional import BidirectionalEncoder, FusedInjector, Injector, MultiScaleFusion
from methods.sslvos.encoders.spatial_semantic import ConvStem
from methods.sslvos.encoders.vit import ViT
from methods.sslvos.settings import AdapterSettings

SIZES, WIDE = [(4, 8), (2, 4), (1, 2)], [(8, 16), (4, 8), (2, 4)]
KINDS = ["vit-adapter", "vit-comer"]
POINT = AdapterSettings(points=1, extra=0)


def identity(*layers: nn.Linear) -> None:
    for layer in layers:
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)


def silence(*layers: nn.Linear) -> None:
    for layer in layers:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


def by_map(tokens: torch.Tensor, sizes: list[tuple[int, int]]) -> list[torch.Tensor]:
    parts = tokens.split([h * w for h, w in sizes], 1)
    return [part.unflatten(1, size) for part, size in zip(parts, sizes, strict=True)]


def test_stem_goes_on_to_stride_32():
    maps = ConvStem(8, 4, to32=True)(torch.randn(1, 3, 64, 96))
    assert [tuple(x.shape) for x in maps] == [(1, 8, 64 // s, 96 // s) for s in (4, 8, 16, 32)]


def test_injector_by_hand():
    """Each of the three maps is the same everywhere; with equal weights their normalised mean is read, times gamma.

    Two channels: LN of (a, b) is (1, -1) where a > b, (-1, 1) where a < b. Two of three say the former: (1/3, -1/3).
    The outermost places read zeros beyond the coarser map's border, too.
    """
    injector = Injector(2, 1, POINT)
    nn.init.zeros_(injector.attention.sampling_offsets.bias)  # every place reads at its own
    identity(injector.attention.value_proj, injector.attention.output_proj)
    with torch.no_grad():
        injector.gamma.copy_(torch.tensor([3.0, 30.0]))
    constants = zip(((5.0, 1.0), (0.0, 9.0), (2.0, 1.0)), WIDE, strict=True)
    x = torch.cat([torch.tensor(pair).expand(1, h * w, 2) for pair, (h, w) in constants], 1)
    vit = torch.randn(1, 32, 2)
    new, same = injector(vit, x, WIDE)
    inner = (new - vit).unflatten(1, WIDE[1])[:, 1:-1, 1:-1]
    torch.testing.assert_close(inner, torch.tensor([1.0, -10.0]).expand_as(inner), atol=1e-3, rtol=0)
    assert same is x


def test_fusion_by_hand():
    """Without its feed-forward part, one point at no offset, equal weights over three maps, F zero: X alone is read.

    Four channels: LN of (4, 4, 2, 2) is (1, 1, -1, -1), LN of F elsewhere is zero, and a third of X's is read.
    """
    fusion = MultiScaleFusion(4, 1, POINT)
    nn.init.zeros_(fusion.attention.sampling_offsets.bias)
    identity(fusion.attention.value_proj, fusion.attention.output_proj)
    silence(fusion.ffn.fc2)
    vit = torch.tensor([4.0, 4, 2, 2]).expand(1, 32, 4)
    fine, same, coarse = by_map(fusion(torch.zeros(1, 168, 4), vit, WIDE), WIDE)
    third = torch.tensor([1.0, 1, -1, -1]) / 3
    torch.testing.assert_close(same, (vit[0, 0] + third).expand_as(same), atol=1e-4, rtol=0)
    torch.testing.assert_close(coarse, third.expand_as(coarse), atol=1e-4, rtol=0)
    inner = fine[:, 1:-1, 1:-1]
    torch.testing.assert_close(inner, third.expand_as(inner), atol=1e-4, rtol=0)


def test_two_receptive_fields_by_hand():
    """Eight channels to two, of which one sees 3 x 3 and one 5 x 5 places of ones, and back to two of the eight."""
    fields = FusedInjector(8, 2, POINT).fields
    with torch.no_grad():
        fields.fc1.weight.zero_()[:, 0] = 1
        fields.fc2.weight.zero_()[:2] = torch.eye(2)
        for conv in (fields.conv.small, fields.conv.large):
            conv.weight.fill_(1)
            conv.bias.zero_()
        for layer in (fields.fc1, fields.fc2):
            layer.bias.zero_()
    out = fields(torch.ones(1, 42, 8), SIZES)
    assert not out[..., 2:].any()
    fine, same, coarse = by_map(out[..., :2], SIZES)
    rows, wide = torch.tensor([2.0, 3, 3, 2]), torch.tensor([2.0, 3, 3, 3, 3, 3, 3, 2])
    torch.testing.assert_close(fine[0, ..., 0], rows[:, None] * wide, atol=1e-3, rtol=0)
    rows, wide = torch.tensor([3.0, 4, 4, 3]), torch.tensor([3.0, 4, 5, 5, 5, 5, 4, 3])
    torch.testing.assert_close(fine[0, ..., 1], rows[:, None] * wide, atol=1e-3, rtol=0)
    torch.testing.assert_close(same[0, 0], torch.tensor([[4.0, 6], [6, 8], [6, 8], [4, 6]]), atol=1e-3, rtol=0)
    torch.testing.assert_close(coarse[0, 0], torch.tensor([[2.0, 2], [2, 2]]), atol=0.1, rtol=0)


def test_comer_adds_all_maps_at_the_size_of_the_vit():
    """With a fusion that only adds X: gamma times the mean of 2 x 2 fine places, F_16 + X, and the coarse map."""
    injector = FusedInjector(8, 2, POINT)
    silence(injector.fields.fc2, injector.fusion.ffn.fc2, injector.fusion.attention.output_proj)
    nn.init.constant_(injector.gamma, 2.0)
    x, vit = torch.randn(1, 42, 8), torch.randn(1, 8, 8)
    fine, same, coarse = by_map(x, SIZES)
    new, out = injector(vit, x, SIZES)
    got = (new - vit).unflatten(1, SIZES[1]) / 2
    expected = fine.unflatten(1, (2, 2)).unflatten(3, (4, 2)).mean((2, 4)) + same + vit.unflatten(1, SIZES[1])
    left = expected[:, :, 0] + coarse[:, 0, 0]  # beyond the centre of the coarse map's first place there is no other
    torch.testing.assert_close(got[:, :, 0], left, atol=1e-5, rtol=1e-5)
    second = expected[:, :, 1] + 0.75 * coarse[:, 0, 0] + 0.25 * coarse[:, 0, 1]
    torch.testing.assert_close(got[:, :, 1], second, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out, x)


# The whole.


@pytest.fixture(scope="module")
def vit() -> ViT:
    torch.manual_seed(0)
    return ViT("nano")


@pytest.mark.parametrize("kind", KINDS)
def test_maps(vit, kind):
    encoder = BidirectionalEncoder(vit, kind, stem=8).eval()
    assert [tuple(x.shape) for x in encoder(torch.randn(2, 3, 64, 96))] == [
        (2, 96, 4, 6),
        (2, 96, 8, 12),
        (2, 96, 16, 24),
    ]
    assert (len(encoder.enter), len(encoder.leave), encoder.multiple) == (4, 6, 32)


@pytest.mark.parametrize("kind", KINDS)
def test_the_vit_starts_as_it_was_pretrained(vit, kind):
    """Gamma is zero: the groups give what they give alone; not so when it is one."""
    encoder, image = BidirectionalEncoder(vit, kind, stem=8).eval(), torch.randn(1, 3, 64, 64)
    x, alone = torch.randn(1, 64 + 16 + 4, 96), [tokens for tokens, _ in vit(image)]
    sizes = [(8, 8), (4, 4), (2, 2)]
    for mine, plain in zip(encoder.exchange(image, x, sizes)[1], alone, strict=True):
        torch.testing.assert_close(mine, plain)
    for enter in encoder.enter:
        nn.init.ones_(enter.gamma)
    for mine, plain in zip(encoder.exchange(image, x, sizes)[1], alone, strict=True):
        assert (mine - plain).abs().max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_vit_gets_no_gradient_and_no_update(kind):
    """Though what is trained lies before it: gradients pass through."""
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
    without = [name for name, p in encoder.named_parameters() if p.grad is None]
    assert all(name.startswith("vit.") for name in without)
    assert all(enter.gamma.abs().min() > 0 for enter in encoder.enter)


@pytest.mark.parametrize("kind", KINDS)
def test_a_vit_that_is_not_frozen_trains(kind):
    encoder = build_encoder(Parts(encoder=kind, freeze_vit=False)).train()
    torch.stack([x.square().mean() for x in encoder(torch.randn(2, 3, 64, 64))]).sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_names_and_settings():
    assert Parts(encoder="vit-adapter", freeze_vit=False).row()[1].endswith("adapter=ViT-Adapter, ViT trained")
    assert Parts(size="sslvos", encoder="vit-comer").row()[1] == "ViT-B, adapter=ViT-CoMer"
    for reading in ({"roles": "paper"}, {"residual": "paper"}):
        with pytest.raises(InputError, match="not of vit-comer"):
            build_encoder(Parts(encoder="vit-comer", adapter=AdapterSettings(**reading)))
