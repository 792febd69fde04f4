"""The measures of MOSE v2."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from common.metrics import MOSEv2Metrics, boundary_accuracy, disk_runs
from common.metrics.mose import adaptive_boundary_accuracy, sampled_disk_runs, segment_mean, smoothed_similarity

NAMES = {
    "J": "J",
    "F_dot": "Fdot",
    "F": "F",
    "J_disappear": "J_d",
    "F_dot_disappear": "Fdot_d",
    "J_reappear": "J_r",
    "F_dot_reappear": "Fdot_r",
    "J&F_dot": "J&Fdot",
    "J&F": "J&F",
    "J&F_dot_disappear": "J&Fdot_d",
    "J&F_dot_reappear": "J&Fdot_r",
}


def masks(root: Path, case: str, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Scored frames of a case as bool (T, N, H, W), prediction and annotation."""
    arrays = np.load(root / "vos" / f"{case}.npz")
    pred, gt = (torch.from_numpy(arrays[key])[1:-1] for key in ("pred", "gt"))
    return tuple(torch.stack([labels == i for i in ids], 1) for labels in (pred, gt))


def close(got: torch.Tensor, want: float | None) -> None:
    assert got.item() == pytest.approx(float("nan") if want is None else want, abs=1e-6, nan_ok=True)


def test_every_object_and_the_suite_equal_the_public_scorer(golden_root: Path) -> None:
    expected = json.loads((golden_root / "vos_expected.json").read_text())
    suite = MOSEv2Metrics()
    for case in expected["suite"]["mose_v2"]["cases"]:
        for target, want in expected["cases"][case]["mose_v2"].items():
            metric = MOSEv2Metrics()
            metric.update(*masks(golden_root, case, [int(target)]))
            suite.add(metric.rows)
            got = metric.compute()
            for name, value in want.items():
                close(got[NAMES[name]], value)
    got = suite.compute()
    for name, value in expected["suite"]["mose_v2"].items():
        if name != "cases":
            close(100 * got[NAMES[name]], value)


def test_without_compat_f_is_that_of_davis(golden_root: Path) -> None:
    expected = json.loads((golden_root / "vos_expected.json").read_text())
    case = next(name for name in expected["cases"] if name.startswith("p02"))
    metric = MOSEv2Metrics(official_compat=False)
    metric.update(*masks(golden_root, case, [1]))
    close(metric.compute()["F"], expected["cases"][case]["davis2017"]["1"]["F"]["M"])


def square(top: int, left: int, side: int, size: tuple[int, int] = (96, 128)) -> torch.Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_smoothed_j_is_never_0_by_hand() -> None:
    pred = torch.stack([square(0, 0, 3), square(0, 0, 2), square(0, 0, 0), square(0, 0, 0)])
    target = torch.stack([square(0, 0, 2), square(9, 9, 3), square(0, 0, 2), square(0, 0, 0)])
    assert smoothed_similarity(pred, target).tolist() == pytest.approx([5 / 10, 1 / 14, 1 / 5, 1])


def test_the_tolerance_shrinks_with_the_object_by_hand() -> None:
    # 600 x 800: a diagonal of 1000, so 8 pixels. An object of 10 x 10 has ceil(0.1 * 10) = 1 pixel.
    size = (600, 800)
    target = torch.stack([square(100, 100, 10, size), square(100, 100, 90, size)])
    pred = torch.stack([square(103, 100, 10, size), square(103, 100, 90, size)])
    f_dot, f = adaptive_boundary_accuracy(pred, target)
    assert f[0] == boundary_accuracy(pred[0], target[0]) == 1
    assert f_dot[0] == boundary_accuracy(pred[0], target[0], runs=disk_runs(1))
    assert 0 < f_dot[0] < 0.9
    # Of 90 x 90: ceil(9) = 9 is more than 8, a whole number, so all three are the same.
    assert f_dot[1] == f[1] == boundary_accuracy(pred[1], target[1]) == 1


def test_an_absent_object_has_the_ordinary_tolerance() -> None:
    nothing, something = square(0, 0, 0), square(5, 5, 4)
    f_dot, f = adaptive_boundary_accuracy(torch.stack([nothing, something]), torch.stack([nothing, nothing]))
    assert f_dot.tolist() == f.tolist() == [1, 0]


@pytest.mark.parametrize("radius", [1, 2, 7, 8.0])
def test_a_whole_radius_samples_the_disk(radius: float) -> None:
    assert sampled_disk_runs(radius) == disk_runs(radius)


@pytest.mark.parametrize("radius", [0.64, 0.98, 1.28, 2.75, 7.84])
def test_another_radius_samples_beside_the_centre(radius: float) -> None:
    samples = np.arange(-radius, radius + 1)
    inside = samples[:, None] ** 2 + samples**2 <= radius**2
    drawn = np.zeros_like(inside)
    middle = len(samples) // 2
    for dy, lo, hi in sampled_disk_runs(radius):
        drawn[dy + middle, lo + middle : hi + middle + 1] = True
    assert (drawn == inside).all()


def test_a_fractional_radius_matches_to_one_side_by_hand() -> None:
    # 1.1: samples at -1.1, -0.1, 0.9, 1.9; the middle one of four is 0.9. 0.9^2 + 0.1^2 = 0.82 is inside 1.21, and
    # 1.1^2 + 0.1^2 and 0.9^2 + 0.9^2 are not.
    assert sampled_disk_runs(1.1) == ((-1, -1, 0), (0, -1, -1))
    assert sampled_disk_runs(0.2) == ((0, 0, 0),)


def test_times_of_absence_and_after_a_return_by_hand() -> None:
    there = torch.tensor([0, 1, 1, 0, 0, 1, 0, 1, 1, 1])  # the first absence has begun before
    j = torch.tensor([0.9, 0.1, 0.3, 1.0, 0.0, 0.6, 0.8, 0.2, 0.5, 0.8], dtype=torch.float64)
    metric = MOSEv2Metrics()
    metric.extend(*(values[:, None] for values in (j, j / 2, j / 4, there)))
    got = metric.compute()
    assert got["J_d"].item() == pytest.approx((0.5 + 0.8) / 2)
    assert got["J_r"].item() == pytest.approx((0.2 + 0.6 + 0.5) / 3)
    assert got["Fdot_r"].item() == pytest.approx((0.2 + 0.6 + 0.5) / 6)
    assert got["J&Fdot_d"].item() == pytest.approx(0.65 * 0.75)
    assert got["J"].item() == pytest.approx(j.mean().item())
    assert got["J&Fdot"].item() == pytest.approx(j.mean().item() * 0.75)
    assert got["J&F"].item() == pytest.approx(j.mean().item() * 0.625)
    assert next(iter(got)) == "J&Fdot"


def test_an_object_that_never_vanishes_has_no_part_in_it() -> None:
    values = torch.tensor([[0.5, 0.25], [0.5, 0.25], [0.5, 0.75]], dtype=torch.float64)
    metric = MOSEv2Metrics()
    metric.extend(values, values, values, torch.tensor([[1, 1], [1, 0], [1, 1]]))
    got = metric.compute()
    assert (got["J_d"], got["J_r"]) == (0.25, 0.75)
    assert got["J"] == pytest.approx((0.5 + 5 / 12) / 2)


def test_frames_that_do_not_count_are_passed_over() -> None:
    nan = math.nan
    j = torch.tensor([[nan, nan], [0.5, nan], [nan, nan], [1.0, nan]], dtype=torch.float64)
    metric = MOSEv2Metrics()
    metric.extend(j, j, j, torch.tensor([[0, 1], [1, 1], [0, 1], [0, 1]]))
    got = metric.compute()
    assert (len(metric.rows), got["J"], got["J_d"]) == (1, 0.75, 1)


def test_segments_at_both_ends() -> None:
    values = torch.arange(4.0)[:, None]
    assert segment_mean(values, torch.tensor([True, True, True, True])).isnan()
    assert segment_mean(values, torch.tensor([False, False, False, True])) == 3
    assert segment_mean(values[:0], torch.zeros(0, dtype=torch.bool)).isnan()


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(T, N\)"):
        MOSEv2Metrics().extend(*(torch.zeros(4, n) for n in (2, 2, 2, 1)))
