"""Memory generation by hand: pooling, weights with and without distractors, the three fusions, both ways to combine."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from methods.vqsam.memory import MemoryGenerator

NONE = torch.zeros(0, 2, 1, 3)


def maps(*values: float) -> Tensor:
    """One constant map (64 -> 2 channels, 1 x 3 places) for each value; the second channel is negative."""
    return torch.stack([torch.tensor([v, -v])[:, None, None].expand(2, 1, 3) for v in values])


INITIAL, TARGETS, DISTRACTORS = maps(1.0), maps(2.0, 4.0), maps(10.0)


def generator(**how) -> MemoryGenerator:
    return MemoryGenerator(width=2, hidden=4, **how)


def constant(mlp: nn.Sequential, *values: float) -> None:
    """Make an MLP return these values whatever it is given."""
    nn.init.zeros_(mlp[2].weight)
    mlp[2].bias.data = torch.tensor(values)


def values(out: list[Tensor]) -> list[float]:
    assert all(m.shape == (1, 2, 1, 3) for m in out)
    assert all(torch.equal(m, m[:, :, :, :1].expand_as(m)) for m in out)
    return [round(m[0, 0, 0, 0].item(), 5) for m in out]


def test_untrained_it_adds_the_pooled_targets_and_counts_a_distractor_as_the_query():
    assert values(generator()(INITIAL, TARGETS, DISTRACTORS)) == [1.0, 3.0, 1.0]
    assert values(generator()(INITIAL, TARGETS, NONE)) == [1.0, 3.0]
    assert values(generator()(INITIAL, NONE, DISTRACTORS)) == [1.0, 1.0]
    assert values(generator(combine="sum")(INITIAL, TARGETS, DISTRACTORS)) == [round(5 / 3, 5)]


@pytest.mark.parametrize("fusion", ["adaptive", "static", "equal"])
def test_with_nothing_found_memory_stays_the_querys(fusion):
    memory = generator(fusion=fusion)
    (out,) = memory(INITIAL, NONE, NONE)
    assert out is INITIAL


def test_features_go_through_their_mlp_each():
    memory = generator()
    constant(memory.target, 0.5, 0.0)  # eq. (6)
    constant(memory.distractor, 7.0, 0.0)
    assert values(memory(INITIAL, TARGETS, DISTRACTORS)) == [1.0, 3.5, 8.0]


def test_pooling_over_frames_keeps_places_apart_and_over_space_does_not():
    targets = torch.zeros(2, 2, 1, 3)
    targets[0, 0, 0, 0], targets[1, 0, 0, 2] = 3.0, 6.0
    kept = generator(pooling="frames")(INITIAL, targets, NONE)[1]
    assert kept[0, 0, 0].tolist() == [1.5, 0.0, 3.0]
    spread = generator(pooling="space")(INITIAL, targets, NONE)[1]
    assert spread[0, 0, 0].tolist() == [1.5, 1.5, 1.5]


def test_adaptive_weights_are_a_softmax_over_the_kinds_there_are():
    memory = generator()
    constant(memory.weigh, 0.0, torch.log(torch.tensor(2.0)).item(), torch.log(torch.tensor(5.0)).item())
    three = memory.weights([INITIAL, TARGETS[:1], DISTRACTORS])
    torch.testing.assert_close(three, torch.tensor([1.0, 2.0, 5.0]) / 8)
    two = memory.weights([INITIAL, TARGETS[:1], None])
    torch.testing.assert_close(two, torch.tensor([1.0, 2.0, 0.0]) / 3)
    only = memory.weights([INITIAL, None, DISTRACTORS])
    torch.testing.assert_close(only, torch.tensor([1.0, 0.0, 5.0]) / 6)
    # eq. (8); side by side the weights are scaled by the number of maps
    assert values(memory(INITIAL, TARGETS, DISTRACTORS)) == [3 / 8, 3 * 2 / 8 * 3, 3 * 5 / 8]
    memory.combine = "sum"
    assert values(memory(INITIAL, TARGETS, DISTRACTORS)) == [1 / 8 + 2 / 8 * 3 + 5 / 8]


def test_adaptive_weights_see_the_mean_of_every_map():
    """Eq. (7): the first layer passes channel 0 of each map on, the second makes the third one the logit of D."""
    memory = generator()
    with torch.no_grad():
        memory.weigh[0].weight.zero_()
        memory.weigh[0].bias.zero_()
        for unit, column in enumerate((0, 2, 4)):
            memory.weigh[0].weight[unit, column] = 1.0
        memory.weigh[2].weight[2, 2] = 1.0
    uneven = torch.tensor([0.0, 1.0, 2.0]).expand(1, 2, 1, 3)  # mean 1
    got = memory.weights([INITIAL, INITIAL, uneven])
    torch.testing.assert_close(got, torch.tensor([0.0, 0.0, 1.0]).softmax(0))
    memory.weigh[2].weight.data[2, 2], memory.weigh[2].weight.data[1, 1] = 0.0, 2.0
    got = memory.weights([INITIAL, uneven, None])
    torch.testing.assert_close(got[:2], torch.tensor([0.0, 2.0]).softmax(0))
    assert got[2] == 0


def test_static_weights_are_learned_and_the_same_for_all():
    memory = generator(fusion="static")
    memory.logits.data = torch.tensor([1.0, 3.0, 4.0]).log()
    for kind in (DISTRACTORS, maps(99.0)):
        torch.testing.assert_close(memory.weights([INITIAL, INITIAL, kind]), torch.tensor([1.0, 3.0, 4.0]) / 8)
    torch.testing.assert_close(memory.weights([INITIAL, INITIAL, None]), torch.tensor([1.0, 3.0, 0.0]) / 4)
    memory(INITIAL, TARGETS, DISTRACTORS)[1][:, 0].sum().backward()
    assert memory.logits.grad.abs().min() > 0


def test_equal_weights_are_not_learned():
    memory = generator(fusion="equal")
    assert not [name for name, _ in memory.named_parameters() if name.startswith(("weigh", "logits"))]
    torch.testing.assert_close(memory.weights([INITIAL, INITIAL, INITIAL]), torch.full((3,), 1 / 3))
    torch.testing.assert_close(memory.weights([INITIAL, INITIAL, None]), torch.tensor([0.5, 0.5, 0.0]))


def test_every_part_learns():
    memory = generator()
    for mlp in (memory.target, memory.distractor, memory.weigh):
        nn.init.normal_(mlp[2].weight)
    out = memory(torch.randn(1, 2, 1, 3), torch.randn(2, 2, 1, 3), torch.randn(1, 2, 1, 3))
    torch.cat(out).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in memory.parameters())
