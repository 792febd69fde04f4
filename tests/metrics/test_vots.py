"""The VOTS measures: by hand, and equal to what the toolkit gives."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from common.metrics import VOTSMetrics
from common.metrics.vots import NUMBERS, count_frames, measure_regions, success_plot
from common.vot.regions import parse_region, raster, read_regions

SIZE = (120, 214)
FILTERS = {"all_frames": slice(None), "evaluation_tag": slice(1, None)}
Sequence = tuple[Tensor, Tensor, Tensor, Tensor]  # preds, target, known, ignore


def from_arrays(root: Path, name: str, objects: list[str]) -> Sequence:
    """A sequence of the arrays; frame 0 of the answers is nothing, as in a result file."""
    arrays = np.load(root / "vots_arrays.npz")
    pred, target, state = (torch.from_numpy(arrays[f"{name}__{key}"]) for key in ("pred", "gt", "state"))
    ids = [int(object_id) for object_id in objects]
    preds, targets = (torch.stack([labels == i for i in ids], 1) for labels in (pred, target))
    preds[0] = False
    known = torch.stack([state[:, sorted(ids).index(i)] != 2 for i in ids], 1)
    ignore = torch.zeros(len(pred), *SIZE, dtype=torch.bool)
    if (key := f"{name}__ignore_box_yxyx") in arrays:
        y0, x0, y1, x1 = arrays[key]
        ignore[:, y0:y1, x0:x1] = True
    return preds, targets, known, ignore


def from_files(root: Path, name: str, objects: list[str]) -> Sequence:
    """The same out of ground truth and result files."""
    truth = [read_regions(root / f"vots/sequences/{name}/groundtruth_{i}.txt") for i in [*objects, "_ignore"]]
    files = [read_regions(root / f"vots/results/{name}/{name}_{i}_001.txt") for i in objects]
    masks = [torch.stack([raster(region, SIZE) for region in track]) for track in truth]
    preds = torch.stack([torch.stack([raster(region, SIZE) for region in track]) for track in files], 1)
    known = torch.stack([torch.tensor([str(region) != "Special(code=0)" for region in track]) for track in truth[:-1]])
    return preds, torch.stack(masks[:-1], 1), known.T, masks[-1]


@pytest.mark.parametrize("source", [from_arrays, from_files])
@pytest.mark.parametrize("name", list(FILTERS))
def test_every_number_equals_the_toolkit(golden_root: Path, name: str, source: object) -> None:
    frames, expected = FILTERS[name], json.loads((golden_root / "vots_expected.json").read_text())[name]
    metric, again, plots = VOTSMetrics(), VOTSMetrics(), []
    for sequence, want in expected["per_sequence"].items():
        preds, target, known, ignore = source(golden_root, sequence, want["objects"])  # type: ignore[operator]
        alone = VOTSMetrics()
        given = torch.zeros_like(known)
        given[0] = True
        masks = [part[frames] for part in (preds, target, known, given, ignore)]
        alone.update(*masks)
        metric.update(*masks)
        got = alone.compute()
        for key in ("Quality", "Accuracy", "NRE", "DRE", "ADQ"):
            value = want[key] if key in want else want[key.lower()]
            assert got[key].item() == pytest.approx(float("nan") if value is None else value, abs=1e-6, nan_ok=True)
        measured = measure_regions(preds, target, ignore[:, None])
        for row, object_id in enumerate(want["objects"]):
            counted = known[:, row]  # the file holds numbers for unknown frames too
            overlaps = torch.tensor(want["overlaps"][object_id], dtype=torch.float64)
            assert torch.allclose(measured[0][counted, row], overlaps[counted], atol=1e-6, rtol=0)
        overlap, present, reported = (part[frames] for part in measured)
        overlap = overlap.masked_fill(~known[frames], torch.nan)
        assert count_frames(overlap, present.bool(), reported.bool()).T.tolist() == want["counts_TFMHN"]
        plots.append(success_plot(overlap))
        again.extend(overlap, present, reported, given[frames])
    for key in NUMBERS:
        assert metric.compute()[key].item() == pytest.approx(expected["overall"][key], abs=1e-6)
    assert metric.compute() == again.compute()
    want_plot = torch.tensor(expected["overall"]["success_plot_y"], dtype=torch.float64)
    assert torch.allclose(torch.stack(plots).mean(0), want_plot, atol=1e-6, rtol=0)


def test_skipping_the_first_frame_is_the_tag_without_it(golden_root: Path) -> None:
    expected = json.loads((golden_root / "vots_expected.json").read_text())["evaluation_tag"]
    metric = VOTSMetrics(init_frame="skip")
    for sequence, want in expected["per_sequence"].items():
        preds, target, known, ignore = from_arrays(golden_root, sequence, want["objects"])
        metric.update(preds, target, known, ignore=ignore)
    for key in NUMBERS:
        assert metric.compute()[key].item() == pytest.approx(expected["overall"][key], abs=1e-6)


def test_thin_regions_as_the_toolkit_takes_them(golden_root: Path) -> None:
    cases = json.loads((golden_root / "vots_expected.json").read_text())["overlap_quirks_20x30"]
    assert len(cases) == 10
    texts = {"column0_same": ("m0,3,1,4,0,4",) * 2, "row0_col0_pixel_vs_block": ("m0,0,1,1,0,1", "m0,0,2,2,0,4")}
    for name, case in cases.items():
        # these two were cropped to nothing when they were written down; here is what they were before
        pred, target = (raster(parse_region(text), (20, 30)) for text in texts.get(name, case["text"]))
        overlap, present, reported = measure_regions(pred, target, toolkit_boxes=True)
        assert overlap.item() == pytest.approx(case["overlap_cropped"], abs=1e-6), name
        assert [not reported, not present] == case["is_empty_cropped"], name
        right = (pred & target).sum() / (pred | target).sum() if (pred | target).any() else 1.0
        overlap, present, reported = measure_regions(pred, target)
        assert overlap.item() == pytest.approx(float(right)), name
        assert (bool(reported), bool(present)) == (bool(pred.any()), bool(target.any())), name


# By hand.


def one(overlap: list[float], present: list[int], reported: list[int], given: int | None = None) -> list[Tensor]:
    """One object, as arguments of ``extend``."""
    columns = [torch.tensor(values, dtype=torch.float64)[:, None] for values in (overlap, present, reported)]
    mark = torch.zeros(len(overlap), 1)
    if given is not None:
        mark[given] = 1
    return [*columns, mark]


def numbers(*sequences: list[Tensor], **settings: str) -> dict[str, float]:
    metric = VOTSMetrics(**settings)
    for sequence in sequences:
        metric.extend(*sequence)
    return {key: value.item() for key, value in metric.compute().items()}


def test_the_numbers_of_one_object() -> None:
    # tracked 0.5 and 1, failed, missed, hallucinated, correctly absent, unknown
    got = numbers(
        one([0.5, 1, 0, 0, 0, 1, float("nan")], [1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 1, 0, 1]),
    )
    assert list(got) == list(NUMBERS)
    assert got["Quality"] == pytest.approx(2.5 / 6)
    assert got["Accuracy"] == pytest.approx(0.75)
    assert (got["Robustness"], got["NRE"], got["DRE"]) == (0.5, 0.25, 0.25)
    assert np.isnan(got["ADQ"])  # absent in 2 frames


@pytest.mark.parametrize(("absent", "defined"), [(10, False), (11, True)])
def test_absence_detection_needs_more_than_ten_absent_frames(absent: int, defined: bool) -> None:
    reported = [1] * 3 + [0] * (absent - 3)
    got = numbers(one([float(not r) for r in reported], [0] * absent, reported))
    assert np.isnan(got["ADQ"]) != defined
    if defined:
        assert got["ADQ"] == pytest.approx(8 / 11)
    assert got["Accuracy"] == 0
    assert np.isnan(got["Robustness"])  # never present


def test_means_go_over_objects_then_sequences_and_pass_over_what_is_undefined() -> None:
    lost, kept = one([0.0] * 12, [1] * 12, [1] * 12), one([1.0] * 12, [1] * 12, [1] * 12)
    never = one([1.0] * 12, [0] * 12, [0] * 12)
    pair = [torch.cat(parts, 1) for parts in zip(lost, never, strict=True)]
    got = numbers(pair, kept, kept)
    assert got["Quality"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert got["Accuracy"] == pytest.approx((0 + 1 + 1) / 3)  # the never present object counts as 0 here
    assert got["Robustness"] == pytest.approx((0 + 1 + 1) / 3)  # and not at all here
    assert got["ADQ"] == 1  # of the one object of the one sequence that has it


@pytest.mark.parametrize(("rule", "quality", "missed"), [("count", 0.75, 0.25), ("skip", 1.0, 0.0)])
def test_the_frame_that_is_given(rule: str, quality: float, missed: float) -> None:
    for answer in ([1.0, 1, 1, 1], [0.0, 1, 1, 1]):  # whatever the tracker says there
        got = numbers(one(answer, [1] * 4, [int(answer[0]), 1, 1, 1], given=0), init_frame=rule)
        assert (got["Quality"], got["Accuracy"], got["NRE"]) == (quality, quality, missed)


def test_a_given_frame_without_ground_truth_stays_out() -> None:
    got = numbers(one([float("nan"), 1], [0, 1], [1, 1], given=0))
    assert (got["Quality"], got["NRE"]) == (1, 0)


def test_objects_without_a_frame_that_counts_are_left_out() -> None:
    empty, kept = one([float("nan")] * 3, [0] * 3, [0] * 3), one([0.5] * 3, [1] * 3, [1] * 3)
    both = [torch.cat(parts, 1) for parts in zip(empty, kept, strict=True)]
    assert numbers(both)["Quality"] == numbers(kept)["Quality"] == numbers(kept, empty)["Quality"] == 0.5


def test_pixels_to_ignore() -> None:
    preds, target = torch.zeros(2, 2, 1, 4, 6, dtype=torch.bool).unbind()
    preds[:, :, :2, :4] = target[:, :, :2, 2:6] = True
    ignore = torch.zeros(2, 4, 6, dtype=torch.bool)
    ignore[1, :, :2] = True  # 2 x 2 of the answer alone
    metric = VOTSMetrics()
    metric.update(preds, target, initialised=torch.zeros(2, 1, dtype=torch.bool), ignore=ignore)
    assert metric.compute()["Quality"].item() == pytest.approx((4 / 12 + 4 / 8) / 2)


def test_success_at_both_ends() -> None:
    overlap = torch.tensor([[0.0], [0.5], [1.0], [float("nan")]], dtype=torch.float64)
    assert success_plot(overlap, 3).tolist() == pytest.approx([2 / 3, 1 / 3, 1 / 3])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.permutations(range(4)))
def test_bounds_the_sum_of_rates_and_no_order(seed: int, order: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    sequences = []
    for number in range(4):
        shape = (13 + number, 1 + number)
        present, reported, given = (torch.rand(3, *shape, generator=generator) < 0.6).double()
        overlap = torch.rand(shape, generator=generator, dtype=torch.float64) * present * reported
        sequences.append((overlap, present, reported, given))
    forth, back = VOTSMetrics(), VOTSMetrics()
    for number in range(4):
        forth.extend(*sequences[number])
        back.extend(*(values.flip(-1) for values in sequences[order[number]]))
    got = forth.compute()
    assert all(got[key].equal(back.compute()[key]) or got[key].isnan() for key in NUMBERS)
    assert all(0 <= value <= 1 or value.isnan() for value in got.values())
    assert (got["Robustness"] + got["NRE"] + got["DRE"]).item() == pytest.approx(1)


def test_a_perfect_answer_has_all() -> None:
    masks = torch.rand(20, 2, 8, 9) < 0.3
    masks[4:16] = False
    metric = VOTSMetrics(init_frame="skip")
    metric.update(masks, masks)
    assert [value.item() for value in metric.compute().values()] == [1, 1, 1, 0, 0, 1]


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="'count' or 'skip', not 'drop'"):
        VOTSMetrics(init_frame="drop")
    with pytest.raises(ValueError, match=r"must all be \(T, N\)"):
        VOTSMetrics().extend(*torch.zeros(3, 4, 2), torch.zeros(4, 1))
