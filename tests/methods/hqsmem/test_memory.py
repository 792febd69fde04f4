"""Banks, policies, engines and the base tracker on made-up memories and small networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from common.errors import InputError
from common.nn.memory_policy import KeepAll, LeastRelevant, MemoryPolicy, Oldest
from methods.hqsmem.deaot.propagation import LayerMemory
from methods.hqsmem.memory import FRAME, Bank, describe
from methods.hqsmem.settings import MemorySettings, memory_of
from methods.hqsmem.tracker import Tracker
from tests.support.seeded_deaot import labels_of, lively


def frame_of(value: float, tokens: int = 4, layers: int = 2) -> list[LayerMemory]:
    """Keys (cos, sin) of an angle, V the same twice, ID_V counting the tokens."""
    angle = torch.tensor([value]).deg2rad()
    key = torch.cat([angle.cos(), angle.sin()]).expand(1, tokens, 2).clone()
    identity = torch.arange(float(tokens)).view(1, tokens, 1).expand(1, tokens, 2) + value
    return [LayerMemory(key, torch.cat([key, identity], -1)) for _ in range(layers)]


def stored(bank: Bank, identity: int = FRAME) -> list[int]:
    return [entry.frame for entry in bank.lists[identity]]


def filled(policy: MemoryPolicy | None, capacity: int | None, angles: list[float], **settings: object) -> Bank:
    bank = Bank(MemorySettings(capacity=capacity, **settings), policy)  # type: ignore[arg-type]
    for frame, angle in enumerate(angles):
        bank.add(frame_of(angle), 10 * frame, reference=frame == 0)
    return bank


def test_a_bank_reads_all_that_it_stores():
    bank = filled(None, None, [0, 30, 60])
    layers, order = bank.read()
    assert (len(bank), len(layers)) == (3, 2)
    assert order.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert layers[1].identity[0, :, 0].tolist() == [0, 1, 2, 3, 30, 31, 32, 33, 60, 61, 62, 63]
    assert bank.lists[FRAME][1].layers[0].key.data_ptr() == layers[0].key[:, 4:].data_ptr()  # held once
    bank.add(frame_of(90), 30)
    assert bank.read()[0][0].key.shape == (1, 16, 2)
    bank.reset()
    assert len(bank) == bank.updates == 0


def test_similarity_is_the_mean_cosine_of_keys_and_values():
    """DMAOT's measure: 60 degrees apart in every part is 0.5; half of the parts apart, 0.75."""
    first, second = frame_of(0), frame_of(60)
    assert describe(first) @ describe(second) == pytest.approx(0.5)
    assert describe(first) @ describe(first) == pytest.approx(1.0)
    assert describe([first[0], second[1]]) @ describe(second) == pytest.approx(0.75)


def test_keep_all_grows():
    assert stored(filled(KeepAll(), 2, [0, 1, 2, 3])) == [0, 10, 20, 30]


def test_oldest_goes_but_never_the_reference():
    assert stored(filled(Oldest(), 3, [0, 10, 20, 30, 40])) == [0, 30, 40]


def test_least_relevant_goes():
    """80 degrees is farthest from 20 when the bank is full, then 20 from 80: the reference, at 0, is not asked."""
    assert stored(filled(LeastRelevant(), 3, [0, 80, 30, 20])) == [0, 20, 30]
    assert stored(filled(LeastRelevant(), 3, [0, 80, 30, 20, 80])) == [0, 20, 40]


def test_a_bank_full_of_references_stores_references_only():
    bank = filled(Oldest(), 1, [0, 10, 20])
    assert stored(bank) == [0]
    bank.add(frame_of(50), 30, reference=True)
    assert stored(bank) == [0, 30]


class Notes:
    """A policy that keeps all and notes what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[list[float], list[float], list[bool], int | None]] = []

    def choose(self, ages, relevance, protected, capacity):
        self.told.append((ages.tolist(), [round(x, 4) for x in relevance.tolist()], protected.tolist(), capacity))
        return KeepAll().choose(ages, relevance, protected, capacity)


@pytest.mark.parametrize(("unit", "ages"), [("frames", [20, 10]), ("updates", [2, 1])])
def test_what_a_policy_is_told(unit, ages):
    notes = Notes()
    filled(notes, 7, [0, 60, 90], age_unit=unit)
    assert notes.told[-1] == (ages, [0.0, 0.8660], [True, False], 7)


def test_relevance_on_given_descriptors():
    notes = Notes()
    bank = Bank(MemorySettings(), notes)
    for frame, vector in enumerate(([1.0, 0.0], [3.0, 4.0])):
        bank.add(frame_of(0), frame, descriptors={FRAME: torch.tensor(vector)})
    assert notes.told[0][1] == [0.6]


def test_memory_per_object_keeps_each_target_s_tokens():
    """Frame 0 has background, 1 and 2; frame 1 lacks 2, whose list stays as it is."""
    bank = Bank(MemorySettings(capacity=2, per_object=True), Oldest())
    bank.add(frame_of(0), 0, torch.tensor([0, 1, 1, 2]), reference=True)
    bank.add(frame_of(100), 10, torch.tensor([0, 0, 0, 1]))
    assert {i: [e.layers[0].key.shape[1] for e in own] for i, own in bank.lists.items()} == {
        0: [1, 3],
        1: [2, 1],
        2: [1],
    }
    layers, order = bank.read()
    assert sorted(layers[0].identity[0, :, 0].tolist()) == [0, 1, 2, 3, 100, 101, 102, 103]
    assert order.tolist() == [0, 1, 1, 1, 0, 0, 1, 0]
    bank.add(frame_of(200), 20, torch.tensor([2, 2, 1, 1]))
    assert [stored(bank, i) for i in (0, 1, 2)] == [[0, 10], [0, 20], [0, 20]]
    bank.forget(1)
    assert bank.read()[0][0].key.shape[1] == 7
    bank.forget(9)


def test_gaps():
    assert [MemorySettings(gap="length").at(length).gap for length in (None, 60, 151, 3000)] == [5, 5, 5, 100]
    assert MemorySettings(gap=3).at(900).gap == 3
    assert (memory_of("deaot-s").gap, memory_of("swinb-deaot-l").gap) == (None, 5)
    for bad in ({"gap": 0}, {"short_skip": 0}, {"capacity": 0}):
        with pytest.raises(InputError):
            MemorySettings(**bad)  # type: ignore[arg-type]


def run(tracker: Tracker, frames: int = 7, late: int | None = None) -> list[Tensor]:
    """Probabilities of frames of noise (49, 65); target 5 is given at frame 0, target 3 there or later."""
    generator, probs = torch.Generator().manual_seed(1), []
    for index in range(frames):
        frame = torch.randint(0, 256, (49, 65, 3), generator=generator, dtype=torch.uint8)
        prob = tracker.predict(frame)
        probs.append(prob)
        labels = torch.tensor([0, *tracker.targets])[prob.argmax(0)]
        given, joined = labels_of((49, 65)), []
        for index_given, (target, row) in zip((0, late or 0), ((5, 1), (3, 2)), strict=True):
            if index == index_given:
                labels[given == row] = target
                joined.append(target)
        tracker.write(labels, joined)
    return probs


@torch.inference_mode()
def test_when_frames_are_remembered():
    """Every third frame after the reference; the short-term memory is two frames back once there are as many."""
    tracker = Tracker(lively(), MemorySettings(gap=3, short_skip=2))
    probs = run(tracker, frames=8)
    engine = tracker.groups[0].engine
    assert stored(engine.bank) == [0, 3, 6]
    assert len(engine.short) == 2
    assert [prob.shape[0] for prob in probs] == [1] + [3] * 7
    for prob in probs:
        torch.testing.assert_close(prob.sum(0), torch.ones(49, 65))
    assert tracker.targets == (5, 3)


@torch.inference_mode()
def test_only_reference_frames_without_a_gap():
    tracker = Tracker(lively(), MemorySettings(gap=None))
    run(tracker, late=4)
    assert [(e.frame, e.reference) for e in tracker.groups[0].engine.bank.lists[FRAME]] == [(0, True), (4, True)]


@torch.inference_mode()
def test_memory_per_object_reads_the_same_until_something_goes():
    """Attention does not care for the order of what it reads (section 3)."""
    net = lively()
    whole, parts = (Tracker(net, MemorySettings(gap=2, per_object=per_object)) for per_object in (False, True))
    for one, other in zip(run(whole), run(parts), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert len(parts.groups[0].engine.bank.lists) == 3


@torch.inference_mode()
@pytest.mark.parametrize("per_object", [False, True])
def test_capacity_holds_over_time(per_object):
    settings = MemorySettings(gap=1, capacity=3, per_object=per_object)
    tracker = Tracker(lively(), settings, LeastRelevant())
    run(tracker, frames=12)
    for entries in tracker.groups[0].engine.bank.lists.values():
        assert len(entries) <= 3
        assert entries[0].reference


@torch.inference_mode()
def test_twelve_targets_take_two_engines():
    tracker = Tracker(lively(), MemorySettings(gap=2))
    labels = (torch.arange(48 * 64).view(48, 64) // 64 // 4) + 1  # twelve bands
    frame = torch.randint(0, 256, (48, 64, 3), dtype=torch.uint8)
    tracker.predict(frame)
    tracker.write(labels, joined=range(1, 13))
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
    tracker = Tracker(lively(), MemorySettings(gap=1, per_object=per_object))
    run(tracker, frames=4)
    tracker.drop(5)
    assert tracker.targets == (3,)
    prob = tracker.predict(torch.zeros(49, 65, 3, dtype=torch.uint8))
    assert prob.shape == (2, 49, 65)
    tracker.write(torch.tensor([0, 3])[prob.argmax(0)])
    with pytest.raises(InputError, match=r"target 5 is not followed; followed are \[3\]"):
        tracker.drop(5)
    with pytest.raises(InputError, match="target 3 is followed already"):
        tracker.write(torch.zeros(49, 65, dtype=torch.long), joined=[3])
    tracker.drop(3)
    assert tracker.predict(torch.zeros(49, 65, 3, dtype=torch.uint8)).shape == (1, 49, 65)
    tracker.reset()
    assert (tracker.frame, tracker.targets, tracker.features) == (-1, (), None)


@torch.inference_mode()
def test_descriptors_are_asked_for_by_target():
    """Of the targets, not of the identities that they have in an engine; only when a write is due."""
    notes = Notes()
    tracker = Tracker(lively(), MemorySettings(gap=2, per_object=True), notes)
    run(tracker, frames=2)
    tracker.predict(torch.zeros(49, 65, 3, dtype=torch.uint8))
    assert tracker.due()
    tracker.groups[0].engine.bank.lists[1][0].descriptor = torch.tensor([1.0, 0.0])
    labels = torch.zeros(49, 65, dtype=torch.long)
    labels[:, :] = 5
    notes.told.clear()
    tracker.write(labels, descriptors={0: torch.ones(2), 5: torch.tensor([0.6, 0.8]), 3: torch.ones(2)})
    assert [relevance for _, relevance, _, _ in notes.told] == [[0.6]]
    tracker.predict(torch.zeros(49, 65, 3, dtype=torch.uint8))
    assert not tracker.due()
