"""J&F: the DAVIS statistics, and that neither order nor processes change them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.metrics import JAndF, boundary_accuracy, region_similarity
from common.metrics.jandf import per_object


def golden(root: Path) -> dict:
    return json.loads((root / "vos_expected.json").read_text())


def masks(root: Path, case: str, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Scored frames of a case as bool (T, N, H, W), prediction and annotation."""
    arrays = np.load(root / "vos" / f"{case}.npz")
    pred, gt = (torch.from_numpy(arrays[key])[1:-1] for key in ("pred", "gt"))
    return tuple(torch.stack([labels == i for i in ids], 1) for labels in (pred, gt))


def assert_close(got: torch.Tensor, want: float | None) -> None:
    assert got.item() == pytest.approx(float("nan") if want is None else want, abs=1e-6, nan_ok=True)


def test_every_object_equals_davis2017_evaluation(golden_root: Path) -> None:
    cases = {name: case for name, case in golden(golden_root)["cases"].items() if case["davis2017"]}
    assert len(cases) == 11
    for name, case in cases.items():
        for target, want in case["davis2017"].items():
            metric = JAndF(wrap_uint8=True)
            metric.update(*masks(golden_root, name, [int(target)]))
            got = metric.compute()
            for measure in "JF":
                for key, statistic in (("M", "mean"), ("R", "recall"), ("D", "decay")):
                    assert_close(got[f"{measure}_{statistic}"], want[measure][key])


def test_decay_of_long_videos_does_not_wrap(golden_root: Path) -> None:
    cases = golden(golden_root)["cases"].items()
    ((name, want),) = (
        (name, case["decay_without_uint8_wrap"]["1"]) for name, case in cases if len(case["per_frame"]["J"][0]) > 256
    )
    metric = JAndF()
    metric.update(*masks(golden_root, name, [1]))
    assert_close(metric.compute()["J_decay"], want["J"])
    assert_close(metric.compute()["F_decay"], want["F"])


@pytest.mark.parametrize("suite", ["davis2017_semi", "davis2017_semi_with_long"])
def test_suite_means_equal_davis2017_evaluation(golden_root: Path, suite: str) -> None:
    expected = golden(golden_root)
    metric = JAndF(wrap_uint8=True)
    for name in expected["suite"][suite]["cases"]:
        ids = [int(target) for target in expected["cases"][name]["davis2017"]]
        metric.update(*masks(golden_root, name, ids))
    got = metric.compute()
    for key, want in expected["suite"][suite].items():
        if key != "cases":
            measure, statistic = key.split("-")
            assert_close(got["J&F" if measure == "J&F" else f"{measure}_{statistic.lower()}"], want)


def test_statistics_by_hand() -> None:
    # 9 frames: edges 0, 2, 4, 6, 8; quarters share their border frame. 0.5 itself is not recalled.
    values = torch.tensor([1.0, 0.8, 0.6, 0.5, 0.5, 0.5, 0.4, 0.2, 0.0], dtype=torch.float64)[:, None]
    mean, recall, decay = per_object(values)[0].tolist()
    assert (mean, recall) == (pytest.approx(0.5), pytest.approx(3 / 9))
    assert decay == pytest.approx((1.0 + 0.8 + 0.6) / 3 - (0.4 + 0.2 + 0.0) / 3)


def test_edges_of_the_decay_round_halves_up() -> None:
    # 7 frames: edges at 1, 2.5, 4, 5.5, 7, so the first bin is frames 0..2 and the last 5..6.
    values = torch.arange(7, dtype=torch.float64)[:, None]
    assert per_object(values)[0, 2].item() == pytest.approx(1.0 - 5.5)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_videos_have_all_statistics(frames: int) -> None:
    assert per_object(torch.rand(frames, 2, dtype=torch.float64)).isfinite().all()


def test_objects_count_alike_whatever_their_video() -> None:
    metric = JAndF()
    metric.extend(torch.ones(4, 1), torch.ones(4, 1))
    metric.extend(torch.zeros(9, 3), torch.zeros(9, 3))
    got = metric.compute()
    assert got["J"] == got["F"] == got["J&F"] == got["J_recall"] == 0.25
    assert set(got) == {"J&F", "J", "F"} | {f"{m}_{s}" for m in "JF" for s in ("mean", "recall", "decay")}


def test_update_equals_extend_and_forward_gives_the_batch() -> None:
    pred, target = torch.rand(2, 5, 2, 20, 30).lt(0.4).unbind()
    first, second = JAndF(), JAndF()
    batch = first(pred, target)
    second.extend(region_similarity(pred, target), boundary_accuracy(pred, target))
    assert batch == first.compute() == second.compute()
    first(~pred, target)
    assert first.compute()["J"] != batch["J"]
    assert first.rows.reshape(-1, 6).shape == (4, 6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.permutations(range(5)))
def test_order_of_videos_and_ids_changes_no_digit(seed: int, order: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    videos = [torch.rand(2, 3 + n, 1 + n % 3, generator=generator, dtype=torch.float64) for n in range(5)]
    forth, back = JAndF(), JAndF()
    for n in range(5):
        forth.extend(*videos[n])
        back.extend(*videos[order[n]].flip(-1))
    assert forth.compute() == back.compute()


@pytest.mark.parametrize("shape", [(0, 2), (4,)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(T, N\)"):
        JAndF().extend(torch.zeros(shape), torch.zeros(shape))


def test_frames_that_are_nan_do_not_count_and_an_object_without_frames_is_left_out() -> None:
    nan = float("nan")
    values = torch.tensor([[1.0, nan, nan], [0.5, nan, 0.25], [nan, nan, 0.75]], dtype=torch.float64)
    metric = JAndF()
    metric.extend(values, values)
    assert metric.rows[:, 0].tolist() == [0.75, 0.5]
    assert metric.compute()["J"] == 0.625
