"""VQ2D metrics: by hand, and equal to the official evaluator."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from common.metrics import VQ2DMetrics
from common.metrics.vq2d import average_precision, track_overlap


def track(*boxes: tuple[float, ...]) -> Tensor:
    return torch.tensor(boxes, dtype=torch.float64).reshape(-1, 5)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def over(queries: list[tuple[float, float, float, list[float]]]) -> dict[str, float]:
    """Numbers over queries of (score, tIoU, stIoU, IoU of frames)."""
    metric = VQ2DMetrics()
    for score, tiou, stiou, frames in queries:
        metric.extend(tensor(score), tensor(tiou), tensor(stiou), tensor(*frames)[:, None])
    return {name: value.item() for name, value in metric.compute().items()}


# Overlap of two tracks.


def test_overlap_by_hand() -> None:
    target = track((4, 0, 0, 10, 10), (5, 0, 0, 10, 10), (6, 0, 0, 10, 10))
    preds = track((5, 5, 0, 15, 10), (6, 0, 0, 10, 10), (7, 0, 0, 20, 10))
    tiou, stiou, frames = track_overlap(preds, target)
    assert tiou == 2 / 4  # frames 5, 6 of 4 to 7, both ends included
    assert stiou == (50 + 100) / (300 + 400 - 150)
    assert frames.tolist() == [0.0, pytest.approx(50 / 150), 1.0]


def test_order_of_a_tracks_boxes_does_not_matter() -> None:
    target = track((6, 0, 0, 10, 10), (4, 2, 2, 8, 8), (5, 0, 0, 4, 4))
    preds = track((5, 0, 0, 4, 4), (6, 0, 0, 10, 10))
    tiou, stiou, frames = track_overlap(preds.flip(0), target)
    assert frames.tolist() == [1.0, 0.0, 1.0]  # in the order of the annotation
    assert (tiou, stiou) == track_overlap(preds, target.flip(0))[:2] == (2 / 3, 116 / 152)


@pytest.mark.parametrize(
    ("preds", "tiou"),
    [
        (track(), 0.0),
        (track((9, 0, 0, 10, 10)), 0.0),  # beside it in time
        (track((8, 50, 50, 60, 60)), 0.5),  # beside it in space
        (track((8, 10, 0, 20, 10)), 0.5),  # touching
        (track((8, 10, 10, 0, 0)), 0.5),  # inside out
    ],
)
def test_what_does_not_overlap(preds: Tensor, tiou: float) -> None:
    got = track_overlap(preds, track((7, 0, 0, 10, 10), (8, 0, 0, 10, 10)))
    assert (got[0], got[1]) == (tiou, 0.0)
    assert got[2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("preds", "target", "message"),
    [
        (track((1, 0, 0, 1, 1), (1, 0, 0, 2, 2)), track((1, 0, 0, 1, 1)), "predicted track .* once"),
        (torch.zeros(2, 4), track((1, 0, 0, 1, 1)), r"predicted track .* \(2, 4\)"),
        (track(), torch.zeros(5), r"annotated track .* \(5,\)"),
        (track(), track(), "no box"),
    ],
)
def test_wrong_tracks_are_refused(preds: Tensor, target: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        track_overlap(preds, target)


# The curve.


def test_average_precision_by_hand() -> None:
    # right, wrong, right, wrong of 4: precision 1, 1/2, 2/3, 1/2 at recall 1/4, 1/4, 2/4, 2/4
    score, right = tensor(0.9, 0.8, 0.7, 0.6), torch.tensor([True, False, True, False])
    assert average_precision(score, right) == pytest.approx(1 / 4 * 1 + 1 / 4 * 2 / 3)


def test_a_late_rise_of_precision_lifts_what_is_before() -> None:
    score, right = tensor(4, 3, 2), torch.tensor([False, True, True])
    assert average_precision(score, right) == pytest.approx(2 / 3 * 2 / 3)


def test_equal_scores_are_one_point_of_the_curve() -> None:
    right = torch.tensor([True, False, False, True])
    assert average_precision(tensor(1, 1, 1, 1), right) == average_precision(tensor(1, 1, 1, 1), right.flip(0))
    assert average_precision(tensor(1, 1, 1, 1), right) == pytest.approx(0.5 * 0.5)
    assert average_precision(tensor(2, 1, 1, 1), right) == pytest.approx(0.25 * 1 + 0.25 * 0.5)


def test_wrong_tracks_of_low_score_cost_only_recall() -> None:
    good, missed = (0.9, 1.0, 1.0, [1.0, 1.0]), (0.1, 0.0, 0.0, [0.0, 0.0])
    got, worse = over([good, missed]), over([good, (1.1, *missed[1:])])
    assert (got["stAP"], got["tAP"], got["success"], got["recovery"]) == (0.5, 0.5, 0.5, 0.5)
    assert worse["stAP"] == worse["tAP"] == 0.25  # above the right one it costs precision too


# Thresholds.


@pytest.mark.parametrize("threshold", [0.25, 0.5, 0.75, 0.95])
def test_precision_thresholds_are_reached_by_themselves(threshold: float) -> None:
    percent = round(100 * threshold)
    at, below = over([(1, threshold, threshold, [0])]), over([(1, threshold - 1e-9, threshold - 1e-9, [0])])
    assert at[f"tAP{percent}"] == at[f"stAP{percent}"] == 1
    assert below[f"tAP{percent}"] == below[f"stAP{percent}"] == 0
    assert at["tAP"] == at["stAP"] == {25: 0.25, 50: 0.5, 75: 0.75, 95: 1.0}[percent]


@pytest.mark.parametrize(("threshold", "name"), [(0.05, "success"), (0.1, "success10"), (0.2, "success20")])
def test_success_is_reached_by_its_threshold(threshold: float, name: str) -> None:
    assert over([(1, 0, threshold, [0])])[name] == 1
    assert over([(1, 0, threshold - 1e-9, [0])])[name] == 0


@pytest.mark.parametrize(("threshold", "name"), [(0.5, "recovery"), (0.75, "recovery75"), (0.95, "recovery95")])
def test_recovery_is_reached_by_its_threshold_and_pools_frames(threshold: float, name: str) -> None:
    got = over([(1, 0, 0, [threshold, threshold - 1e-9, 0.0]), (1, 0, 0, [1.0])])
    assert got[name] == pytest.approx(2 / 4)


def test_frames_that_are_not_annotated() -> None:
    assert over([(1, 1, 1, [1.0, float("nan"), 0.0])])["recovery"] == 0.5


def test_several_queries_in_one_call() -> None:
    together, alone = VQ2DMetrics(), VQ2DMetrics()
    columns = torch.rand(3, 4, dtype=torch.float64)
    frames = torch.rand(6, 4, dtype=torch.float64)
    frames[4:, 1] = float("nan")
    together.extend(*columns, frames)
    for query in range(4):
        alone.extend(*columns[:, query : query + 1], frames[: 4 if query == 1 else 6, query : query + 1])
    assert together.compute() == alone.compute()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.permutations(range(6)))
def test_order_changes_no_digit(seed: int, order: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(3, (6,), generator=generator)  # with ties
    rest = torch.rand(2, 6, generator=generator, dtype=torch.float64)
    queries = [(float(scores[n]), *(float(v) for v in rest[:, n]), [float(rest[0, n])]) for n in range(6)]
    got = over(queries)
    assert got == over([queries[n] for n in order])
    assert all(0 <= value <= 1 for value in got.values())


def test_names_and_the_main_number() -> None:
    names = list(over([(1, 1, 1, [1.0])]))
    assert names[0] == "stAP25"
    assert set(names) == {
        *(f"{kind}{at}" for kind in ("tAP", "stAP") for at in ("", 25, 50, 75, 95)),
        *("success", "success10", "success20", "recovery", "recovery75", "recovery95"),
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((tensor(1), tensor(1, 1), tensor(1), torch.zeros(3, 1)), r"\(N,\)"),
        ((tensor(1), tensor(1), tensor(1), torch.zeros(3)), r"\(L, N\)"),
        ((tensor(float("nan")), tensor(1), tensor(1), torch.zeros(3, 1)), "score is NaN"),
    ],
)
def test_wrong_measures_are_refused(arguments: tuple[Tensor, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VQ2DMetrics().extend(*arguments)


# Against the official evaluator.


@pytest.fixture(scope="module")
def official() -> dict:
    return json.loads((Path(__file__).parent.parent / "golden" / "vq2d.json").read_text())


def test_all_numbers_equal_the_official_evaluator(official: dict) -> None:
    metric = VQ2DMetrics()
    for query in official["queries"]:
        metric.update(track(*query["pred"]), track(*query["gt"]), query["score"])
    got = {name: value.item() for name, value in metric.compute().items()}
    expected = official["expected"]
    metrics = expected["metrics"]
    want = {
        "tAP": metrics["Temporal AP @ IoU=0.25:0.95"],
        "stAP": metrics["SpatioTemporal AP @ IoU=0.25:0.95"],
        "recovery": metrics["Tracking % recovery (max scr) @ IoU=0.50"] / 100,
        "success": metrics["Success (max scr) @ IoU=0.05"] / 100,
        "success10": expected["success_per_threshold"]["0.1"] / 100,
        "success20": expected["success_per_threshold"]["0.2"] / 100,
        "recovery75": expected["recovery_per_threshold"]["0.75"] / 100,
        "recovery95": expected["recovery_per_threshold"]["0.95"] / 100,
    }
    for kind in ("tAP", "stAP"):
        want |= {f"{kind}{float(t):.0%}"[:-1]: value for t, value in expected[f"{kind}_per_threshold"].items()}
    assert got == pytest.approx(want, abs=1e-6)


def test_every_query_equals_the_official_evaluator(official: dict) -> None:
    assert len(official["queries"]) == 12
    for query, want in zip(official["queries"], official["expected"]["per_query"], strict=True):
        tiou, stiou, frames = track_overlap(track(*query["pred"]), track(*query["gt"]))
        assert tiou.item() == pytest.approx(want["tIoU"], abs=1e-6)
        assert stiou.item() == pytest.approx(want["stIoU"], abs=1e-6)
        assert frames.tolist() == pytest.approx(want["frame_IoU"], abs=1e-6)


def test_filled_boxes_give_the_masks_metric_the_same_overlaps(official: dict) -> None:
    from common.metrics import VQSMetrics

    height, width = official["canvas_hw"]
    for query, want in zip(official["queries"], official["expected"]["per_query"], strict=True):
        masks = torch.zeros(2, 64, height, width, dtype=torch.bool)
        for kind, name in enumerate(("pred", "gt")):
            for frame, x0, y0, x1, y1 in query[name]:
                masks[kind, frame, y0:y1, x0:x1] = True
        metric = VQSMetrics()
        metric.update(*masks)
        assert metric.compute()["stAP"].item() == pytest.approx(want["stIoU"], abs=1e-6)
        assert metric.compute()["tAP"].item() == pytest.approx(want["tIoU"], abs=1e-6)
