"""Smart memory against numbers worked out by hand from eq. 3 to 7 as printed in the class."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InputError
from common.nn.smart_memory import Decision, SmartMemory, relevance

RELEVANCE = torch.tensor([0.99, 0.95, 0.50, 0.92])
AGES = torch.tensor([20, 2, 10, 4])  # Fr = 0.05, 0.5, 0.1, 0.25
REFERENCE = torch.tensor([True, False, False, False])


def test_relevance_is_the_cosine():
    """(3, 4) with (4, 3): 24 / 25; with (-3, -4): -1; the second part adds 0 and 1."""
    stored = [
        [torch.tensor([4.0, 3.0]), torch.tensor([0.0, 2.0])],
        [torch.tensor([-3.0, -4.0]), torch.tensor([7.0, 0])],
    ]
    current = [torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0])]
    torch.testing.assert_close(relevance(stored, current), torch.tensor([0.48, 0.0]))
    torch.testing.assert_close(relevance([one[:1] for one in stored], current[:1]), torch.tensor([0.96, -1.0]))


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
    ("settings", "expected"),
    [
        ({}, Decision(3, True)),  # 0.835 is the highest after the reference's; 0.92 > 0.9
        ({"threshold": 0.95}, Decision(None, True)),  # novel
        ({"threshold": 0.95, "max_frames": 4}, Decision(3, True)),  # novel, but full
        ({"balance": 0.0}, Decision(None, True)),  # the oldest, 0.50: novel
        ({"balance": 1.0}, Decision(1, True)),  # the most similar
        ({"max_frames": 3}, Decision(3, False)),  # too many already: one goes, none comes
        ({"update": "store_if_novel"}, Decision(None, False)),
        ({"update": "store_if_novel", "threshold": 0.95}, Decision(None, True)),
        ({"update": "store_if_novel", "threshold": 0.95, "max_frames": 4}, Decision(3, True)),
    ],
)
def test_update(settings, expected):
    assert SmartMemory(**settings).choose(AGES, RELEVANCE, REFERENCE) == expected


def test_the_threshold_itself_is_novel():
    similar, ages = torch.tensor([1.0, 0.5]), torch.tensor([9, 5])
    policy = SmartMemory(threshold=0.5, update="store_if_novel")
    assert policy.choose(ages, similar, torch.tensor([True, False])) == Decision(None, True)


def test_reference_frames_stay():
    everything = torch.ones(4, dtype=torch.bool)
    assert SmartMemory().choose(AGES, RELEVANCE, everything) == Decision(None, True)
    assert SmartMemory(max_frames=4).choose(AGES, RELEVANCE, everything) == Decision(None, False)


def test_an_empty_bank_takes_what_comes():
    empty = torch.zeros(0)
    assert SmartMemory(max_frames=1).choose(empty, empty, empty.bool()) == Decision(None, True)


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.integers(1, 500)), min_size=30, max_size=60),
    st.sampled_from(["additive", "multiplicative"]),
    st.sampled_from(["replace_if_redundant", "store_if_novel"]),
    st.integers(2, 6),
)
def test_a_bank_never_exceeds_its_capacity_nor_loses_its_reference(frames, score, update, capacity):
    policy, bank = SmartMemory(max_frames=capacity, score=score, update=update), [0]
    for time, (_, _) in enumerate(frames, 1):
        similar = torch.tensor([frames[i][0] for i in range(len(bank))])
        ages = torch.tensor([time - entry for entry in bank])
        decision = policy.choose(ages, similar, torch.tensor([entry == 0 for entry in bank]))
        if decision.remove is not None:
            del bank[decision.remove]
        if decision.store:
            bank.append(time)
        assert len(bank) <= capacity
        assert bank[0] == 0


@pytest.mark.parametrize("wrong", [{"balance": 1.1}, {"balance": -0.1}, {"max_frames": 0}])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        SmartMemory(**wrong)
