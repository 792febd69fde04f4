"""Engines and the base tracker on small networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from common.errors import InputError
from common.nn.memory_policy import LeastRelevant
from methods.hqsmem.memory import FRAME
from methods.hqsmem.settings import MemorySettings
from methods.hqsmem.tracker import Tracker
from tests.support.seeded_deaot import RecordingPolicy, labels_of, small_network


def run(tracker: Tracker, frames: int = 7, late: int | None = None) -> list[Tensor]:
    """Track on noise (49, 65), with target 5 annotated at frame 0 and target 3 there or later; return probabilities."""
    generator, probs = torch.Generator().manual_seed(1), []
    for index in range(frames):
        frame = torch.randint(0, 256, (49, 65, 3), generator=generator, dtype=torch.uint8)
        prob = tracker.predict(frame)
        probs.append(prob)
        labels = torch.tensor([0, *tracker.targets])[prob.argmax(0)]
        annotation, new_targets = labels_of((49, 65)), []
        for first_frame, (target, row) in zip((0, late or 0), ((5, 1), (3, 2)), strict=True):
            if index == first_frame:
                labels[annotation == row] = target
                new_targets.append(target)
        tracker.write(labels, new_targets)
    return probs


@torch.inference_mode()
def test_when_frames_are_written():
    """Every third frame after the reference; the short-term memory is two frames back once there are two."""
    tracker = Tracker(small_network(), MemorySettings(gap=3, short_term_skip=2))
    probs = run(tracker, frames=8)
    engine = tracker.groups[0].engine
    assert [entry.frame for entry in engine.bank.lists[FRAME]] == [0, 3, 6]
    assert len(engine.short) == 2
    assert [prob.shape[0] for prob in probs] == [1] + [3] * 7
    for prob in probs:
        torch.testing.assert_close(prob.sum(0), torch.ones(49, 65))
    assert tracker.targets == (5, 3)


@torch.inference_mode()
def test_only_reference_frames_without_a_gap():
    tracker = Tracker(small_network(), MemorySettings(gap=None))
    run(tracker, late=4)
    assert [(e.frame, e.reference) for e in tracker.groups[0].engine.bank.lists[FRAME]] == [(0, True), (4, True)]


@torch.inference_mode()
def test_memory_per_object_reads_the_same_until_an_entry_is_removed():
    """Attention does not depend on the order of its keys."""
    net = small_network()
    whole, parts = (Tracker(net, MemorySettings(gap=2, per_object=per_object)) for per_object in (False, True))
    for one, other in zip(run(whole), run(parts), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert len(parts.groups[0].engine.bank.lists) == 3


@torch.inference_mode()
@pytest.mark.parametrize("per_object", [False, True])
def test_capacity_holds_over_time(per_object):
    settings = MemorySettings(gap=1, capacity=3, per_object=per_object)
    tracker = Tracker(small_network(), settings, LeastRelevant())
    run(tracker, frames=12)
    for entries in tracker.groups[0].engine.bank.lists.values():
        assert len(entries) <= 3
        assert entries[0].reference


@torch.inference_mode()
def test_twelve_targets_take_two_engines():
    tracker = Tracker(small_network(), MemorySettings(gap=2))
    labels = (torch.arange(48 * 64).view(48, 64) // 64 // 4) + 1  # twelve bands
    frame = torch.randint(0, 256, (48, 64, 3), dtype=torch.uint8)
    tracker.predict(frame)
    tracker.write(labels, new_targets=range(1, 13))
    prob = tracker.predict(frame)
    assert prob.shape == (13, 48, 64)
    torch.testing.assert_close(prob.sum(0), torch.ones(48, 64))
    assert [len(group.targets) for group in tracker.groups] == [10, 2]
    tracker.write(labels)
    for target in (11, 12):
        tracker.drop(target)
    assert len(tracker.groups) == 1
    assert tracker.predict(frame).shape == (11, 48, 64)


@torch.inference_mode()
@pytest.mark.parametrize("per_object", [False, True])
def test_a_dropped_target_is_gone(per_object):
    tracker = Tracker(small_network(), MemorySettings(gap=1, per_object=per_object))
    run(tracker, frames=4)
    tracker.drop(5)
    assert tracker.targets == (3,)
    prob = tracker.predict(torch.zeros(49, 65, 3, dtype=torch.uint8))
    assert prob.shape == (2, 49, 65)
    tracker.write(torch.tensor([0, 3])[prob.argmax(0)])
    with pytest.raises(InputError, match=r"target 5 is not tracked; tracked are \[3\]"):
        tracker.drop(5)
    with pytest.raises(InputError, match="target 3 is followed already"):
        tracker.write(torch.zeros(49, 65, dtype=torch.long), new_targets=[3])
    tracker.drop(3)
    assert tracker.predict(torch.zeros(49, 65, 3, dtype=torch.uint8)).shape == (1, 49, 65)
    tracker.reset()
    assert (tracker.frame, tracker.targets, tracker.features) == (-1, (), None)


@torch.inference_mode()
def test_descriptors_are_read_by_target():
    """Of the targets, not of the identities that they have in an engine; only when a write is due."""
    policy = RecordingPolicy()
    tracker = Tracker(small_network(), MemorySettings(gap=2, per_object=True), policy)
    run(tracker, frames=2)
    tracker.predict(torch.zeros(49, 65, 3, dtype=torch.uint8))
    assert tracker.update_due()
    tracker.groups[0].engine.bank.lists[1][0].descriptor = torch.tensor([1.0, 0.0])
    labels = torch.zeros(49, 65, dtype=torch.long)
    labels[:, :] = 5
    policy.calls.clear()
    tracker.write(labels, descriptors={0: torch.ones(2), 5: torch.tensor([0.6, 0.8]), 3: torch.ones(2)})
    assert [relevance for _, relevance, _, _ in policy.calls] == [[0.6]]
    tracker.predict(torch.zeros(49, 65, 3, dtype=torch.uint8))
    assert not tracker.update_due()
