"""DeAOT's parts on small numbers; ``test_parity.py`` compares the whole with the released code."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from methods.hqsmem.deaot.network import UNUSED_LOGIT, DeAOT
from methods.hqsmem.preprocessing import planes_of
from methods.hqsmem.settings import DeAOTSettings
from tests.support.seeded_deaot import labels_of, small_network


@pytest.fixture
def clip() -> tuple[Tensor, Tensor]:
    """Frames (2, 2, 3, 49, 65) and one-hot masks of frame 0 (2, 11, 49, 65)."""
    frames = torch.randn(2, 2, 3, 49, 65, generator=torch.Generator().manual_seed(0))
    masks = torch.cat([planes_of(labels_of((49, 65), shift), 10, (49, 65)) for shift in (0, 6)])
    return frames, masks


def two_frames(net: DeAOT, frames: Tensor, masks: Tensor, permutation: Tensor | None = None) -> Tensor:
    """Frame 0 as the reference, logits of frame 1."""
    first, second = net.encode(frames[:, 0]), net.encode(frames[:, 1])
    identity = net.id_embedding(masks, permutation)
    memory = net.write(net.propagate(first, identity=identity), identity)
    return net.decode(second, net.propagate(second, memory, memory), permutation=permutation)


def test_a_training_step_reaches_every_parameter(clip):
    net = small_network().train()
    logits = two_frames(net, *clip)
    assert logits.shape == (2, 11, 13, 17)
    logits.square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@torch.inference_mode()
def test_clips_of_a_batch_are_independent(clip):
    net, (frames, masks) = small_network(), clip
    both = two_frames(net, frames, masks)
    for row in range(2):
        torch.testing.assert_close(
            both[row : row + 1], two_frames(net, frames[row : row + 1], masks[row : row + 1]), atol=1e-5, rtol=1e-4
        )


@torch.inference_mode()
def test_the_mask_that_is_written_is_the_one_that_is_read(clip):
    """Teacher forcing acts at the write: keys and V stay, ID_V and the next frame's logits change."""
    net, (frames, masks) = small_network(), clip
    features = net.encode(frames[:, 0])
    outputs = net.propagate(features, identity=net.id_embedding(masks))
    plain, forced = (net.write(outputs, net.id_embedding(final)) for final in (masks, masks.flip(0)))
    for one, other in zip(plain, forced, strict=True):
        assert torch.equal(one.key, other.key)
        assert torch.equal(one.visual, other.visual)
        assert not torch.allclose(one.identity, other.identity, atol=1e-3)
    second = net.encode(frames[:, 1])
    predicted = [net.decode(second, net.propagate(second, memory, memory)) for memory in (plain, forced)]
    assert not torch.allclose(*predicted, atol=1e-3)


@torch.inference_mode()
def test_random_identities_are_undone(clip):
    """The released code's products with a permutation matrix, one way and the other."""
    net, (frames, masks) = small_network(), clip
    permutation = net.random_permutation(2, torch.Generator().manual_seed(3))
    assert permutation[:, 0].tolist() == [0, 0]  # the background is not permuted
    assert permutation.sort(1).values.tolist() == [list(range(11))] * 2
    matrix = torch.stack([torch.eye(11)[row] for row in permutation])
    shuffled = torch.einsum("bohw,bot->bthw", masks, matrix)
    torch.testing.assert_close(net.id_embedding(masks, permutation), net.id_embedding(shuffled))
    expected = torch.einsum("bohw,bto->bthw", two_frames(net, frames, shuffled), matrix)
    torch.testing.assert_close(two_frames(net, frames, masks, permutation), expected)


@torch.inference_mode()
def test_unused_identities_get_no_pixel(clip):
    net, (frames, masks) = small_network(), clip
    features = net.encode(frames[:, 0])
    outputs = net.propagate(features, identity=net.id_embedding(masks))
    logits = net.decode(features, outputs, counts=[2, 1])
    assert (logits[0, 3:] == UNUSED_LOGIT).all()
    assert (logits[1, 2:] == UNUSED_LOGIT).all()
    torch.testing.assert_close(logits[0, :3], net.decode(features, outputs)[0, :3])


@pytest.mark.parametrize(("frames", "slots"), [(1, [0]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (6, [0, 1, 1, 2, 3, 3])])
def test_temporal_slots_by_hand(frames, slots):
    """Six frames on four slots, counted from the newest: floor(4 j / 6) = 0 0 1 2 2 3 slots from the last."""
    net = DeAOT(DeAOTSettings("nano", layers=1, width=16, key_width=8, window=3, temporal=True))
    times = net._temporal_embeddings(torch.arange(frames), frames)
    assert times is not None
    assert torch.equal(times[1], net.memory_time[slots])


def test_temporal_slots_are_those_of_the_released_code():
    """Nearest interpolation of the reversed slots, reversed."""
    net = DeAOT(DeAOTSettings("nano", layers=1, width=16, key_width=8, window=3, temporal=True))
    for frames in range(5, 31):
        stretched = F.interpolate(net.memory_time.T[None].flip(2), size=frames, mode="nearest").flip(2)[0].T
        times = net._temporal_embeddings(torch.arange(frames), frames)
        assert times is not None
        assert torch.equal(times[1], stretched), frames


@torch.inference_mode()
def test_temporal_embedding_is_of_the_long_term_memory(clip):
    """Zero embeddings change nothing; others change what is read."""
    settings = DeAOTSettings("nano", layers=1, width=16, key_width=8, window=3, temporal=True)
    net, plain = small_network(settings), small_network(replace(settings, temporal=False))
    changed = two_frames(net, *clip)
    net.query_time.zero_(), net.memory_time.zero_()
    torch.testing.assert_close(two_frames(net, *clip), two_frames(plain, *clip))
    assert not torch.allclose(changed, two_frames(plain, *clip), atol=1e-3)
