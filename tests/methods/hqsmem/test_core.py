"""DeAOT's parts on small numbers; the whole against the released code is in test_hqsmem_parity.py."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import InputError
from common.nn.drop_path import DropPath
from methods.hqsmem.deaot.local import window_attend
from methods.hqsmem.deaot.network import UNUSED, DeAOT
from methods.hqsmem.preprocessing import inner_size, merge_engines, planes_of, prepare
from methods.hqsmem.settings import VARIANTS, DeAOTSettings
from tests.support.seeded_deaot import labels_of, lively


@pytest.fixture
def clip() -> tuple[Tensor, Tensor]:
    """Frames (2, 2, 3, 49, 65) and one-hot masks of frame 0 (2, 11, 49, 65)."""
    frames = torch.randn(2, 2, 3, 49, 65, generator=torch.Generator().manual_seed(0))
    masks = torch.cat([planes_of(labels_of((49, 65), shift), 10, (49, 65)) for shift in (0, 6)])
    return frames, masks


def two_frames(net: DeAOT, frames: Tensor, masks: Tensor, order: Tensor | None = None) -> Tensor:
    """Frame 0 as the reference, logits of frame 1."""
    first, second = net.encode(frames[:, 0]), net.encode(frames[:, 1])
    identity = net.identify(masks, order)
    memory = net.write(net.propagate(first, identity=identity), identity)
    return net.decode(second, net.propagate(second, memory, memory), order=order)


@pytest.mark.parametrize("size", [(5, 7), (2, 9), (9, 2), (1, 1)])
@pytest.mark.parametrize("window", [3, 7])
def test_window_attention_is_the_unfolded_one(size, window):
    """Against keys and values copied for every window, padding masked; also where the window is larger than the map."""
    query, key, value, relative = (torch.randn(2, size[0] * size[1], c) for c in (4, 4, 6, window**2))
    unfold = nn.Unfold(window, padding=window // 2)

    def windows(x: Tensor) -> Tensor:  # (B, n, C, k k)
        return unfold(x.transpose(1, 2).unflatten(2, size)).unflatten(1, (x.shape[2], -1)).permute(0, 3, 1, 2)

    inside = windows(torch.ones(2, size[0] * size[1], 1))[:, :, 0] > 0
    logits = torch.einsum("bnc,bnck->bnk", query, windows(key)) * 0.5 + relative
    share = logits.masked_fill(~inside, -torch.inf).softmax(-1)
    expected = torch.einsum("bnk,bndk->bnd", share, windows(value))
    torch.testing.assert_close(window_attend(query, key, value, relative, size, 0.5), expected)


def test_window_attention_by_hand():
    """Three tokens in a row, window 3, no content: weights come from the relative logits alone.

    Token 0 has no left neighbour, and equal weights else; token 1 looks left only; token 2 itself and left, 3 to 1.
    """
    relative = torch.full((1, 3, 9), -50.0)
    middle = relative.view(3, 3, 3)[:, 1]  # of the middle row of the window: left, itself, right
    middle[0] = torch.tensor([99.0, 0, 0])
    middle[1] = torch.tensor([50.0, 0, 0])
    middle[2] = torch.tensor([0.0, math.log(3), 99.0])
    value = torch.tensor([[[1.0], [10.0], [100.0]]])
    out = window_attend(torch.zeros(1, 3, 1), torch.zeros(1, 3, 1), value, relative, (1, 3), 1.0)
    torch.testing.assert_close(out[0, :, 0], torch.tensor([5.5, 1.0, 77.5]))


def test_a_training_step_reaches_every_parameter(clip):
    net = lively().train()
    logits = two_frames(net, *clip)
    assert logits.shape == (2, 11, 13, 17)
    logits.square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@torch.inference_mode()
def test_clips_of_a_batch_do_not_meet(clip):
    net, (frames, masks) = lively(), clip
    both = two_frames(net, frames, masks)
    for row in range(2):
        torch.testing.assert_close(
            both[row : row + 1], two_frames(net, frames[row : row + 1], masks[row : row + 1]), atol=1e-5, rtol=1e-4
        )


@torch.inference_mode()
def test_the_mask_that_is_written_is_the_one_that_is_read(clip):
    """Teacher forcing acts at the write: keys and V stay, ID_V and the next frame's logits change."""
    net, (frames, masks) = lively(), clip
    features = net.encode(frames[:, 0])
    outputs = net.propagate(features, identity=net.identify(masks))
    plain, forced = (net.write(outputs, net.identify(given)) for given in (masks, masks.flip(0)))
    for one, other in zip(plain, forced, strict=True):
        assert torch.equal(one.key, other.key)
        assert torch.equal(one.visual, other.visual)
        assert not torch.allclose(one.identity, other.identity, atol=1e-3)
    second = net.encode(frames[:, 1])
    predicted = [net.decode(second, net.propagate(second, memory, memory)) for memory in (plain, forced)]
    assert not torch.allclose(*predicted, atol=1e-3)


@torch.inference_mode()
def test_random_identities_are_taken_back(clip):
    """The released code's products with a permutation matrix, one way and the other."""
    net, (frames, masks) = lively(), clip
    order = net.random_order(2, torch.Generator().manual_seed(3))
    assert order[:, 0].tolist() == [0, 0]  # the background keeps its own
    assert order.sort(1).values.tolist() == [list(range(11))] * 2
    matrix = torch.stack([torch.eye(11)[row] for row in order])
    shuffled = torch.einsum("bohw,bot->bthw", masks, matrix)
    torch.testing.assert_close(net.identify(masks, order), net.identify(shuffled))
    expected = torch.einsum("bohw,bto->bthw", two_frames(net, frames, shuffled), matrix)
    torch.testing.assert_close(two_frames(net, frames, masks, order), expected)


@torch.inference_mode()
def test_unused_identities_get_no_pixel(clip):
    net, (frames, masks) = lively(), clip
    features = net.encode(frames[:, 0])
    outputs = net.propagate(features, identity=net.identify(masks))
    logits = net.decode(features, outputs, counts=[2, 1])
    assert (logits[0, 3:] == UNUSED).all()
    assert (logits[1, 2:] == UNUSED).all()
    torch.testing.assert_close(logits[0, :3], net.decode(features, outputs)[0, :3])


@pytest.mark.parametrize(("frames", "slots"), [(1, [0]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (6, [0, 1, 1, 2, 3, 3])])
def test_temporal_slots_by_hand(frames, slots):
    """Six frames on four slots, counted from the newest: floor(4 j / 6) = 0 0 1 2 2 3 slots from the last."""
    net = DeAOT(DeAOTSettings("nano", layers=1, width=16, key=8, window=3, temporal=True))
    times = net._times(torch.arange(frames), frames)
    assert times is not None
    assert torch.equal(times[1], net.memory_time[slots])


def test_temporal_slots_are_those_of_the_released_code():
    """Nearest interpolation of the reversed slots, reversed."""
    net = DeAOT(DeAOTSettings("nano", layers=1, width=16, key=8, window=3, temporal=True))
    for frames in range(5, 31):
        stretched = F.interpolate(net.memory_time.T[None].flip(2), size=frames, mode="nearest").flip(2)[0].T
        times = net._times(torch.arange(frames), frames)
        assert times is not None
        assert torch.equal(times[1], stretched), frames


@torch.inference_mode()
def test_temporal_embedding_is_of_the_long_term_memory(clip):
    """Zero embeddings change nothing; others change what is read."""
    settings = DeAOTSettings("nano", layers=1, width=16, key=8, window=3, temporal=True)
    net, plain = lively(settings), lively(DeAOTSettings("nano", layers=1, width=16, key=8, window=3))
    changed = two_frames(net, *clip)
    net.query_time.zero_(), net.memory_time.zero_()
    torch.testing.assert_close(two_frames(net, *clip), two_frames(plain, *clip))
    assert not torch.allclose(changed, two_frames(plain, *clip), atol=1e-3)


@pytest.mark.parametrize(
    ("size", "aligned", "scale", "expected"),
    [
        ((480, 854), True, 1.0, (481, 849)),
        ((480, 854), False, 1.0, (480, 848)),
        ((1080, 1920), True, 1.0, (577, 1041)),  # 585 x 1040: 36.5 steps go to the even 36
        ((720, 1280), False, 1.3, (768, 1344)),  # 585 x 1040, then 760.5 x 1352: 84.5 steps go to 84
        ((5, 900), True, 1.0, (17, 897)),
    ],
)
def test_sizes_that_the_network_sees(size, aligned, scale, expected):
    assert inner_size(size, aligned, 1040, scale) == expected


def test_frames_are_normalised():
    frame = torch.tensor([124, 116, 104], dtype=torch.uint8).expand(32, 48, 3)
    image = prepare(frame, (17, 33))
    assert image.shape == (1, 3, 17, 33)
    # 124 / 255 = 0.486275, less the mean 0.485, by the deviation 0.229; and so on
    expected = torch.tensor([0.005567, -0.004902, 0.008191])
    torch.testing.assert_close(image[0, :, 5, 5], expected, atol=1e-5, rtol=0)


def test_engines_are_merged_by_hand():
    """Backgrounds .5 and .8, targets .5 | .2, 0: background .4, and logits of probabilities kept from 0 and 1."""
    one = torch.tensor([0.5, 0.5]).log().view(1, 2, 1, 1)
    two = torch.tensor([0.8, 0.2, 0.0]).log().view(1, 3, 1, 1)
    merged = merge_engines([one, two]).flatten()
    torch.testing.assert_close(merged.sigmoid(), torch.tensor([0.4, 0.5, 0.2, 1e-5]))
    assert merge_engines([one]) is one


def test_frozen_parts_as_published():
    """Stem, first stage and batch norms are constants of the published trunks; the nano trunk learns all."""
    net = DeAOT(VARIANTS["deaot-t"]).train()
    held = {name for name, p in net.encoder.named_parameters() if not p.requires_grad}
    assert {"features.0.0.weight", "features.3.conv.2.weight", "features.18.1.weight"} <= held
    assert "features.4.conv.0.0.weight" not in held
    assert not any(m.training for m in net.encoder.modules() if isinstance(m, nn.BatchNorm2d))
    nano = DeAOT(VARIANTS["nano"]).train()
    assert all(p.requires_grad for p in nano.parameters())
    assert all(m.training for m in nano.modules() if isinstance(m, nn.BatchNorm2d))


def test_drop_path_leaves_out_whole_samples():
    drop = DropPath(0.5).train()
    out = drop(torch.ones(1000, 3))
    assert set(out.flatten().tolist()) == {0.0, 2.0}
    assert (out == out[:, :1]).all()
    assert 400 < (out[:, 0] > 0).sum() < 600
    assert torch.equal(drop.eval()(torch.ones(4, 3)), torch.ones(4, 3))


@pytest.mark.parametrize("bad", [{"width": 40}, {"window": 4}, {"layers": 0}])
def test_settings_that_do_not_fit(bad):
    with pytest.raises(InputError):
        DeAOTSettings(**bad)
