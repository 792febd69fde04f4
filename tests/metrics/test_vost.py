"""J and J_tr of VOST."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from common.metrics import VOSTMetrics


def masks(root: Path, case: str, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Scored frames of a case as bool (T, N, H, W), prediction and annotation."""
    arrays = np.load(root / "vos" / f"{case}.npz")
    pred, gt = (torch.from_numpy(arrays[key])[1:-1] for key in ("pred", "gt"))
    return tuple(torch.stack([labels == i for i in ids], 1) for labels in (pred, gt))


def test_every_object_and_the_suite_equal_the_official_scorer(golden_root: Path) -> None:
    expected = json.loads((golden_root / "vos_expected.json").read_text())
    suite = VOSTMetrics(wrap_uint8=True)
    for case in expected["suite"]["vost"]["cases"]:
        for target, want in expected["cases"][case]["vost"].items():
            metric = VOSTMetrics(wrap_uint8=True)
            metric.update(*masks(golden_root, case, [int(target)]))
            suite.add(metric.rows)
            got = metric.compute()
            names = ["J", "J_recall", "J_decay", "J_tr", "J_tr_recall", "J_tr_decay"]
            for name, value in zip(names, [*want["J"], *want["J_last"]], strict=True):
                close(got[name], value)
    got = suite.compute()
    for name, value in expected["suite"]["vost"].items():
        if name != "cases":
            measure, statistic = name.replace("J_last", "J_tr").split("-")
            close(got[measure if statistic == "Mean" else f"{measure}_{statistic.lower()}"], value)


def close(got: torch.Tensor, want: float | None) -> None:
    assert got.item() == pytest.approx(float("nan") if want is None else want, abs=1e-6, nan_ok=True)


def test_the_last_quarter_by_hand() -> None:
    # 7 frames: floor(0.75 * 7) = 5, so the last two; 8 frames: from 6.
    for values, want in (([1, 1, 1, 1, 1, 0.4, 0.2], 0.3), ([1, 1, 1, 1, 1, 1, 0.4, 0.2], 0.3)):
        metric = VOSTMetrics()
        metric.extend(torch.tensor(values, dtype=torch.float64)[:, None])
        got = metric.compute()
        assert next(iter(got)) == "J"
        assert got["J"].item() == pytest.approx(sum(values) / len(values))
        assert got["J_tr"].item() == pytest.approx(want)
        assert got["J_recall"].item() == pytest.approx((len(values) - 2) / len(values))
        assert got["J_tr_recall"] == 0


def test_one_frame_is_all_and_the_last_quarter() -> None:
    metric = VOSTMetrics()
    metric.extend(torch.tensor([[0.25, 0.75]]))
    assert metric.compute()["J"] == metric.compute()["J_tr"] == 0.5


def test_frames_that_do_not_count_shorten_the_video() -> None:
    nan = float("nan")
    some, all_ = VOSTMetrics(), VOSTMetrics()
    some.extend(torch.tensor([[nan, nan], [0.2, nan], [0.4, nan], [nan, nan], [0.9, nan]]))
    all_.extend(torch.tensor([[0.2], [0.4], [0.9]]))
    assert some.compute() == all_.compute()
    assert len(some.rows) == 1


def test_void_pixels_count_for_neither() -> None:
    target = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    target[..., :2, :] = True
    void = torch.zeros_like(target)
    void[..., 2, :] = True
    metric = VOSTMetrics()
    metric.update(target | void, target, void)
    assert metric.compute()["J"] == 1


@pytest.mark.parametrize("shape", [(0, 2), (4,)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(T, N\)"):
        VOSTMetrics().extend(torch.zeros(shape))
