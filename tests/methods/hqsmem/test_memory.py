"""Banks and policies on made-up memories."""

from __future__ import annotations

import pytest
import torch

from common.nn.memory_policy import KeepAll, LeastRelevant, MemoryPolicy, Oldest
from methods.hqsmem.deaot.propagation import LayerMemory
from methods.hqsmem.memory import FRAME, MemoryBank, mean_key_value
from methods.hqsmem.settings import MemorySettings
from tests.support.seeded_deaot import RecordingPolicy


def frame_of(value: float, tokens: int = 4, layers: int = 2) -> list[LayerMemory]:
    """Keys (cos, sin) of an angle, V the same twice, ID_V counting the tokens."""
    angle = torch.tensor([value]).deg2rad()
    key = torch.cat([angle.cos(), angle.sin()]).expand(1, tokens, 2).clone()
    identity = torch.arange(float(tokens)).view(1, tokens, 1).expand(1, tokens, 2) + value
    return [LayerMemory(key, torch.cat([key, identity], -1)) for _ in range(layers)]


def stored(bank: MemoryBank, identity: int = FRAME) -> list[int]:
    return [entry.frame for entry in bank.lists[identity]]


def filled(policy: MemoryPolicy | None, capacity: int | None, angles: list[float], **settings: object) -> MemoryBank:
    bank = MemoryBank(MemorySettings(capacity=capacity, **settings), policy)  # type: ignore[arg-type]
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
    assert mean_key_value(first) @ mean_key_value(second) == pytest.approx(0.5)
    assert mean_key_value(first) @ mean_key_value(first) == pytest.approx(1.0)
    assert mean_key_value([first[0], second[1]]) @ mean_key_value(second) == pytest.approx(0.75)


def test_keep_all_removes_nothing():
    assert stored(filled(KeepAll(), 2, [0, 1, 2, 3])) == [0, 10, 20, 30]


def test_oldest_is_removed_but_never_the_reference():
    assert stored(filled(Oldest(), 3, [0, 10, 20, 30, 40])) == [0, 30, 40]


def test_least_relevant_is_removed():
    """80 degrees is farthest from 20 when the bank is full, then 20 from 80; the reference, at 0, is protected."""
    assert stored(filled(LeastRelevant(), 3, [0, 80, 30, 20])) == [0, 20, 30]
    assert stored(filled(LeastRelevant(), 3, [0, 80, 30, 20, 80])) == [0, 20, 40]


def test_a_bank_full_of_references_stores_references_only():
    bank = filled(Oldest(), 1, [0, 10, 20])
    assert stored(bank) == [0]
    bank.add(frame_of(50), 30, reference=True)
    assert stored(bank) == [0, 30]


@pytest.mark.parametrize(("unit", "ages"), [("frames", [20, 10]), ("updates", [2, 1])])
def test_arguments_of_a_policy(unit, ages):
    policy = RecordingPolicy()
    filled(policy, 7, [0, 60, 90], age_unit=unit)
    assert policy.calls[-1] == (ages, [0.0, 0.8660], [True, False], 7)


def test_relevance_on_other_descriptors():
    policy = RecordingPolicy()
    bank = MemoryBank(MemorySettings(), policy)
    for frame, vector in enumerate(([1.0, 0.0], [3.0, 4.0])):
        bank.add(frame_of(0), frame, descriptors={FRAME: torch.tensor(vector)})
    assert policy.calls[0][1] == [0.6]


def test_memory_per_object_stores_the_tokens_of_each_target():
    """Frame 0 has background, 1 and 2; frame 1 lacks 2, whose list stays as it is."""
    bank = MemoryBank(MemorySettings(capacity=2, per_object=True), Oldest())
    bank.add(frame_of(0), 0, torch.tensor([0, 1, 1, 2]), reference=True)
    bank.add(frame_of(100), 10, torch.tensor([0, 0, 0, 1]))
    assert {i: [e.layers[0].key.shape[1] for e in entries] for i, entries in bank.lists.items()} == {
        0: [1, 3],
        1: [2, 1],
        2: [1],
    }
    layers, order = bank.read()
    assert sorted(layers[0].identity[0, :, 0].tolist()) == [0, 1, 2, 3, 100, 101, 102, 103]
    assert order.tolist() == [0, 1, 1, 1, 0, 0, 1, 0]
    bank.add(frame_of(200), 20, torch.tensor([2, 2, 1, 1]))
    assert [stored(bank, i) for i in (0, 1, 2)] == [[0, 10], [0, 20], [0, 20]]
    bank.drop(1)
    assert bank.read()[0][0].key.shape[1] == 7
    bank.drop(9)
