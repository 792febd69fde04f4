"""Our network against the values of runs that agreed with the official UniVS code (benchmarks/parity_univs.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.support.seeded_univs import CASES, our_run, seed_ours, summarise

EXPECTED = json.loads((Path(__file__).parents[2] / "golden/univs/expected.json").read_text())


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n == "full" else n for n in CASES])
def test_recorded_values(name):
    case = CASES[name]
    found = summarise(our_run(seed_ours(case.settings, case.seed), case))
    torch.testing.assert_close(torch.tensor(found), torch.tensor(EXPECTED[name]), atol=1e-3, rtol=1e-3)


def test_what_was_recorded_is_not_trivial():
    assert EXPECTED.keys() == CASES.keys()
    for rows in EXPECTED.values():
        masks = torch.tensor(rows[0::3])
        assert (masks[:, 1] > 0.5).all()  # spread of the mask logits
        assert (masks[1:, 0] - masks[0, 0]).abs().min() > 1e-3  # every layer changes them
