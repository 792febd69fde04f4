"""VQS metrics: every formula by hand, and the values of an independent implementation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from common.metrics import VQSMetrics

NAN = float("nan")


def measured(*frames: tuple[float, float, float]) -> dict[str, Tensor]:
    """One video: (intersection, union, annotated pixels) of each frame."""
    table = torch.tensor(frames, dtype=torch.float64)
    return dict(zip(("intersection", "union", "area"), table.T[:, :, None], strict=True))


def numbers(*videos: dict[str, Tensor], **readings: str) -> dict[str, float]:
    metric = VQSMetrics(**readings)
    for video in videos:
        metric.extend(**video)
    return {name: value.item() for name, value in metric.compute().items()}


# By hand.

# Frames: target found at IoU 0.75; half found, 0.5 exactly; missed; nothing there, something said; nothing at all.
MIXED = measured((30, 40, 40), (10, 20, 15), (0, 10, 10), (0, 5, 0), (0, 0, 0))


def test_one_video_by_hand() -> None:
    got = numbers(MIXED)
    assert got["stAP"] == pytest.approx(40 / 75)
    assert got["tAP"] == pytest.approx(2 / 4)  # shown in frames 0, 1, 2; said to be in 0, 1, 3
    assert got["Rec"] == pytest.approx(1 / 3)  # 0.5 itself is not recovered
    assert (got["stAP50"], got["stAP75"], got["tAP50"], got["tAP75"], got["Succ"]) == (1, 0, 0, 0, 1)


def test_other_readings_by_hand() -> None:
    assert numbers(MIXED, stiou="frames")["stAP"] == pytest.approx((0.75 + 0.5 + 0 + 0) / 4)
    assert numbers(MIXED, rec_denominator="pred")["Rec"] == pytest.approx(1 / 3)  # said in frames 0, 1 and 3
    quiet = measured((30, 40, 40), (0, 10, 10), (0, 10, 10))
    assert numbers(quiet, rec_denominator="pred")["Rec"] == 1.0
    # volume: 4 / 24; frames that show the target: (1 + 0) / 2
    found_the_small_one = measured((4, 4, 4), (0, 20, 20))
    assert numbers(found_the_small_one)["Succ"] == 0.0
    assert numbers(found_the_small_one, success="gt_frames")["Succ"] == 1.0
    assert numbers(found_the_small_one, stiou="frames")["Succ"] == 1.0


def test_rec_pools_frames_or_averages_videos() -> None:
    long, short = measured(*[(9, 10, 10)] * 3, (0, 10, 10)), measured((0, 10, 10))
    assert numbers(long, short)["Rec"] == pytest.approx(3 / 5)
    assert numbers(long, short, rec_average="macro")["Rec"] == pytest.approx((3 / 4 + 0) / 2)
    # the second video is never said to be there: it has recovered nothing
    assert numbers(long, short, rec_denominator="pred")["Rec"] == 1.0
    assert numbers(long, short, rec_denominator="pred", rec_average="macro")["Rec"] == 0.5


@pytest.mark.parametrize(
    ("frame", "name", "exactly", "above"),
    [
        ((1, 2, 2), "stAP50", 0, (101, 200, 200)),
        ((3, 4, 4), "stAP75", 0, (301, 400, 400)),
        ((1, 5, 5), "Succ", 0, (21, 100, 100)),
        ((1, 2, 2), "Rec", 0, (101, 200, 200)),
    ],
)
def test_thresholds_are_not_reached_by_themselves(
    frame: tuple[int, ...], name: str, exactly: int, above: tuple[int, ...]
) -> None:
    assert numbers(measured(frame))[name] == exactly
    assert numbers(measured(above))[name] == 1


def test_temporal_thresholds_are_not_reached_by_themselves() -> None:
    hit, miss = (1, 1, 1), (0, 1, 1)
    assert numbers(measured(hit, miss))["tAP50"] == 0
    assert numbers(measured(hit, hit, miss))["tAP50"] == 1
    assert numbers(measured(hit, hit, hit, miss))["tAP75"] == 0
    assert numbers(measured(*[hit] * 4, miss))["tAP75"] == 1


def test_nothing_predicted() -> None:
    got = numbers(measured((0, 10, 10), (0, 0, 0)))
    assert all(got[name] == 0 for name in ("stAP", "tAP", "Rec", "Succ"))


@pytest.mark.parametrize("readings", [{}, {"stiou": "frames", "success": "gt_frames", "rec_average": "macro"}])
def test_nothing_there(readings: dict[str, str]) -> None:
    nothing, false_alarm = measured((0, 0, 0), (0, 0, 0)), measured((0, 7, 0), (0, 0, 0))
    got = numbers(nothing, **readings)
    assert got["stAP"] == got["tAP"] == got["Succ"] == got["stAP75"] == 1.0
    assert np.isnan(got["Rec"])
    got = numbers(false_alarm, **readings)
    assert got["stAP"] == got["tAP"] == got["Succ"] == 0.0
    assert np.isnan(got["Rec"])
    assert numbers(false_alarm, rec_denominator="pred", **readings)["Rec"] == 0.0


def test_subsets_by_mean_area_over_annotated_frames() -> None:
    # 10^3.6 = 3981.07; absent frames do not lower the mean
    areas = {"small": [3981.0, 1.0], "medium": [3982.0, 9999.0], "large": [10000.0]}
    videos = [measured((0, a, a), (0, 9, 0)) for a in areas["small"]]
    videos += [measured((a, a, a), (0, 0, 0)) for a in areas["medium"]]
    videos += [measured((a / 2, a, a), (0, 0, 0)) for a in areas["large"]]
    got = numbers(*videos)
    assert (got["stAP_small"], got["stAP_medium"], got["stAP_large"]) == (0.0, 1.0, 0.5)
    assert got["stAP"] == pytest.approx((0 + 0 + 1 + 1 + 0.5) / 5)
    assert (got["Rec_small"], got["Rec_medium"], got["Rec_large"]) == (0.0, 1.0, 0.0)


def test_empty_subsets_are_nan() -> None:
    got = numbers(measured((4, 4, 4)))
    names = ("stAP", "stAP50", "stAP75", "tAP", "tAP50", "tAP75", "Rec", "Succ")
    assert list(got) == [*names, *(f"{name}_{size}" for size in ("small", "medium", "large") for name in names)]
    assert all(got[f"{name}_small"] == 1.0 for name in names)
    assert all(np.isnan(got[f"{name}_{size}"]) for name in names for size in ("medium", "large"))
    nothing = numbers(measured((0, 0, 0)))  # no area, so in no subset
    assert all(np.isnan(nothing[f"stAP_{size}"]) for size in ("small", "medium", "large"))


def test_frames_that_do_not_count() -> None:
    with_gap = measured((30, 40, 40), (NAN, NAN, NAN), (10, 20, 15), (0, 10, 10), (0, 5, 0))
    assert numbers(with_gap) == pytest.approx(numbers(MIXED), nan_ok=True)
    none_counts = measured((NAN, NAN, NAN))
    assert numbers(MIXED, none_counts) == pytest.approx(numbers(MIXED), nan_ok=True)


def test_masks_give_what_their_areas_give() -> None:
    target = torch.zeros(3, 4, 6, dtype=torch.bool)
    preds = target.clone()
    target[0, :, :2] = True  # 8 pixels at the left border
    preds[0, :, 1:3] = True  # 4 shared, 12 in all
    target[1, 3, 5] = True  # the last pixel, missed
    preds[2, 0, 0] = True  # the first pixel, invented
    want = measured((4, 12, 8), (0, 1, 1), (0, 1, 0))
    for shape in ((3, 4, 6), (3, 1, 4, 6)):
        metric = VQSMetrics()
        metric.update(preds.reshape(shape), target.reshape(shape))
        assert {k: v.item() for k, v in metric.compute().items()} == pytest.approx(numbers(want), nan_ok=True)
    assert numbers(want)["stAP"] == pytest.approx(4 / 14)
    assert numbers(want)["tAP"] == pytest.approx(1 / 3)


def test_one_call_may_hold_several_videos() -> None:
    table = torch.randint(1, 9, (5, 3), dtype=torch.float64)
    together, alone = VQSMetrics(), VQSMetrics()
    together.extend(table - 1, table, table)
    for column in range(3):
        one = table[:, column : column + 1]
        alone.extend(one - 1, one, one)
    assert torch.equal(together.sorted_rows(), alone.sorted_rows())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.permutations(range(4)))
def test_bounds_identity_and_order(seed: int, order: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    videos = [torch.rand(2, 5, 6, 7, generator=generator) < 0.3 for _ in range(4)]
    forth, back, same = VQSMetrics(), VQSMetrics(), VQSMetrics()
    for index in range(4):
        forth.update(*videos[index])
        back.update(*videos[order[index]])
        same.update(videos[index][1], videos[index][1])
    got = forth.compute()
    for name, value in back.compute().items():
        assert torch.equal(got[name], value) or value.isnan()
        assert value.isnan() or 0 <= value <= 1
    assert all(value == 1 or value.isnan() for value in same.compute().values())


# What is refused.


@pytest.mark.parametrize("shape", [(0, 1), (4,)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(T, N\)"):
        VQSMetrics().extend(*[torch.zeros(shape)] * 3)


@pytest.mark.parametrize(
    ("preds", "target", "message"),
    [
        (torch.zeros(2, 3, 3), torch.zeros(2, 3, 3), "boolean"),
        (torch.zeros(2, 3, 3) > 0, torch.zeros(2, 3, 4) > 0, "one shape"),
        (torch.zeros(2, 2, 3, 3) > 0, torch.zeros(2, 2, 3, 3) > 0, "one video"),
        (torch.zeros(3, 3) > 0, torch.zeros(3, 3) > 0, "one video"),
        (torch.zeros(0, 3, 3) > 0, torch.zeros(0, 3, 3) > 0, "T > 0"),
    ],
)
def test_wrong_masks_are_refused(preds: Tensor, target: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VQSMetrics().update(preds, target)


def test_an_unknown_reading_is_refused() -> None:
    with pytest.raises(ValueError, match="stiou must be one of volume, frames, not 'mean'"):
        VQSMetrics(stiou="mean")


# Against an independent implementation of the same readings.


@pytest.fixture(scope="module")
def expected(golden_root: Path) -> dict:
    return json.loads((golden_root / "vqs_expected.json").read_text())


@pytest.fixture(scope="module")
def videos(golden_root: Path, expected: dict) -> dict[str, tuple[Tensor, Tensor]]:
    """Predicted and annotated masks of each video."""
    shape, packed = expected["array_shape"], np.load(golden_root / "vqs.npz")

    def masks(name: str, kind: str) -> Tensor:
        return torch.from_numpy(np.unpackbits(packed[f"{name}__{kind}"])[: np.prod(shape)].reshape(shape) > 0)

    return {name: (masks(name, "pred"), masks(name, "gt")) for name in expected["videos"]}


def over_all(videos: dict[str, tuple[Tensor, Tensor]], **readings: str) -> dict[str, float]:
    metric = VQSMetrics(**readings)
    for masks in videos.values():
        metric.update(*masks)
    return {name: 100 * value.item() for name, value in metric.compute().items()}


def test_recommended_readings_equal_the_reference(videos: dict, expected: dict) -> None:
    want = expected["expected"]["recommended"]
    got = over_all(videos)
    assert len(want) == 8
    assert {name: got[name] for name in want} == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize(
    ("readings", "name", "key"),
    [
        ({"stiou": "frames"}, "stAP", "stAP_mean_frame_iou_over_union_frames"),
        ({"rec_average": "macro"}, "Rec", "Rec_macro_per_video"),
        ({"rec_denominator": "pred"}, "Rec", "Rec_over_predicted_frames"),
        ({"success": "gt_frames"}, "Succ", "Succ_mean_gt_frame_iou_gt_0.2"),
    ],
)
def test_other_readings_equal_the_reference(
    videos: dict, expected: dict, readings: dict[str, str], name: str, key: str
) -> None:
    want = expected["expected"]["alternative_readings"]
    assert len(want) == 4
    assert over_all(videos, **readings)[name] == pytest.approx(want[key], abs=1e-6)


def test_every_video_equals_the_reference(videos: dict, expected: dict) -> None:
    assert len(expected["expected"]["per_video"]) == 10
    for name, want in expected["expected"]["per_video"].items():
        one = {name: videos[name]}
        got, other = over_all(one), over_all(one, stiou="frames")
        assert got["stAP"] == pytest.approx(100 * want["stIoU"], abs=1e-6)
        assert got["tAP"] == pytest.approx(100 * want["tIoU"], abs=1e-6)
        assert got["Rec"] == pytest.approx(100 * want["n_rec"] / want["n_gt"], abs=1e-6)
        assert other["stAP"] == pytest.approx(100 * want["mean_frame_iou_over_union"], abs=1e-6)
