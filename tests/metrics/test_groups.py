"""J&F by seen and unseen groups: YouTube-VOS and LVOS."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from common.metrics import GroupedJAndF, JAndF


def close(got: torch.Tensor, want: float) -> None:
    assert got.item() == pytest.approx(want, abs=1e-6)


def added(j: list[float], f: list[float], unseen: float, missing: float = 0) -> GroupedJAndF:
    """A metric with one object."""
    metric = GroupedJAndF()
    columns = (torch.tensor(values, dtype=torch.float64)[:, None] for values in (j, f))
    metric.extend(*columns, torch.tensor([unseen]), torch.tensor([missing]))
    return metric


def test_every_object_and_the_suite_equal_lvos_evaluation(golden_root: Path) -> None:
    expected = json.loads((golden_root / "vos_expected.json").read_text())
    want_suite, suite = expected["suite"]["lvos"], GroupedJAndF()
    for case in want_suite["cases"]:
        arrays = np.load(golden_root / "vos" / f"{case}.npz")
        pred, gt = (torch.from_numpy(arrays[key]) for key in ("pred", "gt"))
        unseen = torch.tensor([float(case in want_suite["unseen"])])
        for target, want in expected["cases"][case]["lvos"].items():
            first = int((gt == int(target)).flatten(1).any(1).nonzero()[0])
            frames = slice(first + 1, -1)  # without the object's own first frame, and the last
            metric = GroupedJAndF()
            metric.update(pred[frames, None] == int(target), gt[frames, None] == int(target), unseen)
            suite.add(metric.rows)
            got = metric.compute()
            for name, value in want.items():
                close(got[name], value)
    got = suite.compute()
    for name, value in want_suite.items():
        if name not in ("cases", "unseen"):
            close(got[name.removesuffix("-Mean").replace("-", "_")], value)


def test_means_of_group_means_by_hand() -> None:
    metric = GroupedJAndF()
    metric.extend(torch.tensor([[0.2, 0.4, 0.6]]), torch.tensor([[0.3, 0.5, 0.7]]), torch.tensor([0, 0, 0]))
    metric.extend(torch.tensor([[0.8]]), torch.tensor([[1.0]]), torch.tensor([1]))
    got = {key: float(value) for key, value in metric.compute().items()}
    want = {"J_seen": 0.4, "J_unseen": 0.8, "F_seen": 0.5, "F_unseen": 1.0, "J": 0.6, "F": 0.75, "G": 0.675}
    assert {key: got[key] for key in want} == pytest.approx(want)
    assert got["J&F"] == got["G"]
    assert next(iter(got)) == "G"


def test_instability_by_hand() -> None:
    # (J + F) / 2 is 0.2 and 0.8: mean 0.5, variance 0.09.
    assert added([0.1, 0.8], [0.3, 0.8], 0).compute()["V"].item() == pytest.approx(0.3)
    # 0.01 apart: the variance 0.000025 is rounded away.
    assert added([0.5, 0.51], [0.5, 0.51], 0).compute()["V"] == 0


def test_missing_frames_count_0() -> None:
    got = added([0.5, 0.7], [0.5, 0.7], 1, missing=1).compute()
    want = added([0.5, 0.7, 0.0], [0.5, 0.7, 0.0], 1).compute()
    assert {key: float(value) for key, value in got.items()} == pytest.approx(
        {key: float(value) for key, value in want.items()}, nan_ok=True
    )
    assert got["J"].item() == pytest.approx(0.4)
    nothing = added([math.nan], [math.nan], 1, missing=3)
    assert nothing.compute()["J"] == 0
    assert added([math.nan], [math.nan], 1).rows.shape == (0, 4)


def test_an_empty_group_is_left_out_of_the_means() -> None:
    got = added([0.5], [0.7], 0).compute()
    assert got["G"].item() == pytest.approx(0.6)
    assert got["J_unseen"].isnan()
    assert got["V_unseen"].isnan()


def test_unknown_groups_give_flat_means() -> None:
    grouped, flat = GroupedJAndF(), JAndF()
    for n in (1, 3):
        values = torch.rand(2, 5, n, dtype=torch.float64)
        grouped.extend(*values, torch.full((n,), math.nan) if n == 3 else torch.zeros(n))
        flat.extend(*values)
    got, want = grouped.compute(), flat.compute()
    assert {key: float(got[key]) for key in ("J&F", "J", "F")} == pytest.approx(
        {key: float(want[key]) for key in ("J&F", "J", "F")}
    )
    assert all(got[f"{measure}_{group}"].isnan() for measure in "JFV" for group in ("seen", "unseen"))


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unseen \(N,\)"):
        GroupedJAndF().extend(torch.zeros(4, 2), torch.zeros(4, 2), torch.zeros(3))
