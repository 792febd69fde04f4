"""Smart memory against numbers worked out by hand from eq. 4 to 7 as the class states them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InputError
from common.nn.memory_policy import Decision, MemoryPolicy
from common.nn.smart_memory import SmartMemory

RELEVANCE = torch.tensor([0.99, 0.95, 0.50, 0.92])
AGES = torch.tensor([20, 2, 10, 4])  # Fr = 0.05, 0.5, 0.1, 0.25
REFERENCE = torch.tensor([True, False, False, False])


def test_additive_score():
    """0.5 · 0.99 + 0.5 · 0.95 = 0.97; 0.475 + 0.25 = 0.725; 0.25 + 0.45 = 0.70; 0.46 + 0.375 = 0.835."""
    torch.testing.assert_close(SmartMemory().scores(AGES, RELEVANCE), torch.tensor([0.97, 0.725, 0.70, 0.835]))
    quarter = SmartMemory(balance=0.25).scores(AGES, RELEVANCE)  # 0.2475 + 0.7125; 0.2375 + 0.375; ...
    torch.testing.assert_close(quarter, torch.tensor([0.96, 0.6125, 0.80, 0.7925]))


def test_multiplicative_score():
    """0.95 · √0.5, 0.5 · √0.9, 0.92 · √0.75."""
    scores = SmartMemory(score="multiplicative").scores(AGES, RELEVANCE)
    torch.testing.assert_close(scores[1:], torch.tensor([0.671751, 0.474342, 0.796743]))


def test_an_age_of_one_is_all_fresh():
    """Fr = 1: nothing of the age is left."""
    one, half = torch.tensor([1]), torch.tensor([0.8])
    assert SmartMemory().scores(one, half).item() == pytest.approx(0.4)
    assert SmartMemory(score="multiplicative").scores(one, half).item() == 0


@pytest.mark.parametrize(
    ("settings", "capacity", "expected"),
    [
        ({}, 10, Decision(3, True)),  # 0.835 is the highest after the reference's; 0.92 > 0.9
        ({"threshold": 0.95}, 10, Decision(None, True)),  # novel
        ({"threshold": 0.95}, None, Decision(None, True)),
        ({"threshold": 0.95}, 4, Decision(3, True)),  # novel, but full
        ({"balance": 0.0}, 10, Decision(None, True)),  # the oldest, 0.50: novel
        ({"balance": 1.0}, 10, Decision(1, True)),  # the most similar
        ({}, 3, Decision(3, False)),  # too many already: one goes, none comes
        ({"update": "store_if_novel"}, 10, Decision(None, False)),
        ({"update": "store_if_novel", "threshold": 0.95}, 10, Decision(None, True)),
        ({"update": "store_if_novel", "threshold": 0.95}, 4, Decision(3, True)),
    ],
)
def test_update(settings, capacity, expected):
    policy: MemoryPolicy = SmartMemory(**settings)
    assert policy.choose(AGES, RELEVANCE, REFERENCE, capacity) == expected


def test_the_threshold_itself_is_novel():
    similar, ages = torch.tensor([1.0, 0.5]), torch.tensor([9, 5])
    policy = SmartMemory(threshold=0.5, update="store_if_novel")
    assert policy.choose(ages, similar, torch.tensor([True, False]), 10) == Decision(None, True)


def test_reference_frames_stay():
    everything = torch.ones(4, dtype=torch.bool)
    assert SmartMemory().choose(AGES, RELEVANCE, everything, 10) == Decision(None, True)
    assert SmartMemory().choose(AGES, RELEVANCE, everything, 4) == Decision(None, False)


def test_an_empty_bank_takes_what_comes():
    empty = torch.zeros(0)
    assert SmartMemory().choose(empty, empty, empty.bool(), 1) == Decision(None, True)


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.integers(1, 500)), min_size=30, max_size=60),
    st.sampled_from(["additive", "multiplicative"]),
    st.sampled_from(["replace_if_redundant", "store_if_novel"]),
    st.integers(2, 6),
)
def test_a_bank_never_exceeds_its_capacity_nor_loses_its_reference(frames, score, update, capacity):
    policy, bank = SmartMemory(score=score, update=update), [0]
    for time, (_, _) in enumerate(frames, 1):
        similar = torch.tensor([frames[i][0] for i in range(len(bank))])
        ages = torch.tensor([time - entry for entry in bank])
        decision = policy.choose(ages, similar, torch.tensor([entry == 0 for entry in bank]), capacity)
        if decision.remove is not None:
            del bank[decision.remove]
        if decision.store:
            bank.append(time)
        assert len(bank) <= capacity
        assert bank[0] == 0


@pytest.mark.parametrize("balance", [1.1, -0.1])
def test_a_balance_out_of_range_is_refused(balance):
    with pytest.raises(InputError, match="balance"):
        SmartMemory(balance=balance)
