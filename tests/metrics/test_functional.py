"""J and F against the official scorer's values, a slow reference, and their own algebra."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.metrics import boundary_accuracy, disk_runs, j_and_f, jf_batched_gpu, jf_packed_cpu, region_similarity
from common.metrics.functional import _counts, _f_measure, _iou, boundary_tolerance

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
EDGES = json.loads((GOLDEN / "edge_frames_expected.json").read_text())
CASES = [f"p{n:02d}" for n in range(1, 15)]


def golden_case(folder: Path, prefix: str) -> tuple[dict, torch.Tensor, torch.Tensor]:
    """Expected values and label maps (prediction, annotation) of one case, by the start of its name."""
    cases = json.loads((folder / "vos_expected.json").read_text())["cases"]
    name = next(name for name in cases if name.startswith(prefix))
    arrays = np.load(folder / "vos" / f"{name}.npz")
    return cases[name], torch.from_numpy(arrays["pred"]), torch.from_numpy(arrays["gt"])


def split(labels: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """Masks bool (T, N, H, W) of label maps (T, H, W)."""
    return torch.stack([labels == i for i in ids], 1)


def whole(pred: torch.Tensor, target: torch.Tensor, void: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
    """J and F of whole images at once, as on a GPU."""
    counts = jf_batched_gpu.count(pred, target, void, disk_runs(boundary_tolerance(*pred.shape[-2:])))
    return _iou(counts), _f_measure(counts)


def slow_boundary(mask: np.ndarray) -> set[tuple[int, int]]:
    """The definition, pixel by pixel."""
    height, width = mask.shape

    def at(y: int, x: int) -> bool:
        return bool(y < height and x < width and mask[y, x])

    def differs(y: int, x: int) -> bool:
        if y == height - 1 and x == width - 1:
            return False
        if x == width - 1:
            return at(y, x) != at(y + 1, x)
        if y == height - 1:
            return at(y, x) != at(y, x + 1)
        return any(at(y, x) != at(y + dy, x + dx) for dy, dx in ((0, 1), (1, 0), (1, 1)))

    return {(y, x) for y in range(height) for x in range(width) if differs(y, x)}


def slow_disk(height: int, width: int) -> set[tuple[int, int]]:
    radius = math.ceil(0.008 * math.sqrt(height**2 + width**2))
    side = range(-radius, radius + 1)
    return {(dy, dx) for dy in side for dx in side if dy**2 + dx**2 <= radius**2}


def slow_f(pred: np.ndarray, target: np.ndarray, footprint: set[tuple[int, int]]) -> float:
    mine, theirs = slow_boundary(pred), slow_boundary(target)
    if not mine or not theirs:
        return float(not mine and not theirs)

    def share(some: set, others: set) -> float:
        near = [any((y + dy, x + dx) in others for dy, dx in footprint) for y, x in some]
        return sum(near) / len(near)

    precision, recall = share(mine, theirs), share(theirs, mine)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@st.composite
def mask_pairs(draw: st.DrawFn, largest: int = 14) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs of boxes, single pixels, noise, full and empty masks, many of them at the borders of the image."""
    height, width = (draw(st.integers(1, 14) | st.integers(1, largest)) for _ in range(2))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))

    def one() -> np.ndarray:
        kind = draw(st.sampled_from(["empty", "full", "noise", "pixel", "box", "box"]))
        if kind == "noise":
            return random.random((height, width)) < random.random() ** 2
        mask = np.full((height, width), kind == "full")
        if kind == "pixel":
            mask[random.integers(height), random.integers(width)] = True
        if kind == "box":
            (top, bottom), (left, right) = (sorted(random.integers(0, n + 1, 2)) for n in (height, width))
            mask[top:bottom, left:right] = True
        return mask

    return torch.from_numpy(one()), torch.from_numpy(one())


footprints = st.lists(
    st.tuples(st.integers(-9, 9), st.integers(-70, 70), st.integers(0, 70) | st.integers(0, 3)).map(
        lambda run: (run[0], run[1], run[1] + run[2])
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("name", EDGES)
def test_edge_frames_equal_the_official_scorer(name: str) -> None:
    arrays, shape = np.load(GOLDEN / "edge_frames.npz"), EDGES[name]["shape"]
    pred, target = (
        torch.from_numpy(np.unpackbits(arrays[f"{name}__{kind}"])[: math.prod(shape)].reshape(shape)).bool()
        for kind in ("pred", "gt")
    )
    assert boundary_tolerance(*shape) == EDGES[name]["bound_pix"]
    for j, f in (j_and_f(pred, target), whole(pred, target)):
        assert j.item() == pytest.approx(EDGES[name]["J"], abs=1e-9)
        assert f.item() == pytest.approx(EDGES[name]["F"], abs=1e-9)


@pytest.mark.parametrize("prefix", CASES)
def test_every_frame_and_object_equals_the_official_scorer(golden_root: Path, prefix: str) -> None:
    case, pred, gt = golden_case(golden_root, prefix)
    ids, void = case["per_frame"]["objects"], (gt == 255)[:, None]
    masks = split(pred, ids), split(gt, ids)
    for key, ignored in (("", None), ("_void", void)):
        if f"J{key}" in case["per_frame"]:
            want = {k: torch.tensor(case["per_frame"][k + key], dtype=torch.float64).T for k in "JF"}
            for j, f in (j_and_f(*masks, ignored), whole(*masks, ignored)):
                torch.testing.assert_close(j, want["J"], atol=1e-9, rtol=0)
                torch.testing.assert_close(f, want["F"], atol=1e-9, rtol=0)


@settings(max_examples=150, deadline=None)
@given(mask_pairs())
def test_equals_the_slow_reference(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    pred, target = (mask.numpy() for mask in pair)
    union = (pred | target).sum()
    assert region_similarity(*pair).item() == ((pred & target).sum() / union if union else 1.0)
    assert boundary_accuracy(*pair).item() == pytest.approx(slow_f(pred, target, slow_disk(*pred.shape)), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(mask_pairs(), footprints)
def test_a_lopsided_footprint_equals_the_slow_reference(pair: tuple[torch.Tensor, torch.Tensor], runs: list) -> None:
    offsets = {(dy, dx) for dy, lo, hi in runs for dx in range(lo, hi + 1)}
    want = slow_f(*(mask.numpy() for mask in pair), offsets)
    assert boundary_accuracy(*pair, runs=runs).item() == pytest.approx(want, abs=1e-12)


def test_a_run_looks_from_each_map_at_the_other() -> None:
    """Worked by hand: one boundary is that of the other two columns to the right."""
    pred, target = torch.zeros(2, 9, 20, dtype=torch.bool).unbind()
    pred[2:6, 5:9], target[2:6, 7:11] = True, True
    # Boundaries are rings of 5 x 5 pixels in columns 4 to 8 and 6 to 10. Two columns to the right of the first lies the
    # second; two to the right of the second, its left side (5 pixels) meets the right side of the first.
    hits, totals = _counts(pred, target, None, [(0, 2, 2)]).view(3, 2)[1:].tolist()
    assert totals == [16, 16]
    assert hits == [16, 5]
    assert boundary_accuracy(pred, target, runs=[(0, 2, 2)]).item() == pytest.approx(2 * (5 / 16) / (1 + 5 / 16))


@settings(max_examples=150, deadline=None)
@given(mask_pairs(largest=150), st.integers(0, 18).map(disk_runs) | footprints)
def test_packed_pixels_equal_whole_images(pair: tuple[torch.Tensor, torch.Tensor], runs: list) -> None:
    assert torch.equal(_counts(*pair, None, runs), jf_batched_gpu.count(*pair, None, runs))


@pytest.mark.parametrize("radius", range(1, 19))
def test_disk(radius: int) -> None:
    y, x = torch.meshgrid(*[torch.arange(-radius, radius + 1)] * 2, indexing="ij")
    disk = torch.zeros(2 * radius + 1, 2 * radius + 1, dtype=torch.bool)
    for dy, lo, hi in disk_runs(radius):
        disk[dy + radius, lo + radius : hi + radius + 1] = True
    assert torch.equal(disk, y**2 + x**2 <= radius**2)


@settings(max_examples=100, deadline=None)
@given(mask_pairs())
def test_bounds_identity_and_symmetry(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    pred, target = pair
    for measure in (region_similarity, boundary_accuracy):
        value = measure(pred, target)
        assert value.dtype == torch.float64
        assert 0 <= value <= 1
        assert measure(pred, pred) == 1
        assert measure(target, pred).item() == pytest.approx(value.item(), abs=1e-15)


@settings(max_examples=50, deadline=None)
@given(mask_pairs(largest=100))
def test_precision_and_recall_change_places_with_the_masks(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    runs = disk_runs(boundary_tolerance(*pair[0].shape))
    there, back = (_counts(*masks, None, runs) for masks in (pair, pair[::-1]))
    assert there[[0, 1, 3, 2, 5, 4]].tolist() == back.tolist()


@settings(max_examples=50, deadline=None)
@given(mask_pairs(), mask_pairs(), st.permutations(range(3)))
def test_objects_are_measured_apart(
    one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor], order: list[int]
) -> None:
    height, width = (max(n) for n in zip(one[0].shape, other[0].shape, strict=True))
    pred, target = torch.zeros(2, 3, height, width, dtype=torch.bool).unbind()
    for k, pair in enumerate((one, other)):
        for masks, mask in zip((pred, target), pair, strict=True):
            masks[k, : mask.shape[0], : mask.shape[1]] = mask
    values, permuted = j_and_f(pred, target), j_and_f(pred[order], target[order])
    for value, again in zip(values, permuted, strict=True):
        assert torch.equal(value[order], again)
        assert value[2] == 1  # both empty


def test_one_call_gives_both() -> None:
    pred, target, void = torch.rand(3, 2, 3, 17, 131).lt(0.1).unbind()
    for ignored in (None, void, void[0, 0], void[:, :1]):
        j, f = j_and_f(pred, target, ignored)
        assert torch.equal(j, region_similarity(pred, target, ignored))
        assert torch.equal(f, boundary_accuracy(pred, target, ignored))
        assert torch.equal(torch.stack([j, f]), torch.stack(whole(pred, target, ignored)))


def test_batches_of_any_shape_are_measured_one_by_one() -> None:
    pred, target = torch.rand(2, 2, 3, 17, 31).lt(0.1).unbind()
    target[0, 1], pred[1, 0] = False, False
    for measure in (region_similarity, boundary_accuracy, lambda *pair: whole(*pair)[1]):
        pairs = zip(pred.flatten(0, 1), target.flatten(0, 1), strict=True)
        one_by_one = torch.stack([measure(*pair) for pair in pairs]).view(2, 3)
        assert torch.equal(measure(pred, target), one_by_one)
        assert torch.equal(measure(pred.mT.contiguous().mT, target), one_by_one)  # strides do not matter
        assert measure(pred[:0], target[:0]).shape == (0, 3)
        assert measure(pred[0, 0], target[0, 0]).shape == ()


def test_more_pixels_than_are_taken_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pred, target = torch.rand(2, 5, 40, 60).lt(0.5).unbind()
    at_once = whole(pred, target)[1]
    assert torch.equal(boundary_accuracy(pred, target), at_once)
    monkeypatch.setattr(jf_batched_gpu, "PIXELS", 2 * 40 * 60)
    monkeypatch.setattr(jf_packed_cpu, "BATCH_WORDS", 300)
    assert torch.equal(whole(pred, target)[1], at_once)
    assert torch.equal(boundary_accuracy(pred, target), at_once)


def test_void_pixels_count_for_neither() -> None:
    pred, target, void = torch.rand(3, 20, 20).lt(0.3).unbind()
    for measure in (region_similarity, boundary_accuracy):
        assert measure(pred, target, void) == measure(pred & ~void, target & ~void)


@pytest.mark.parametrize("measure", [region_similarity, boundary_accuracy])
def test_other_sizes_and_types_are_refused(measure) -> None:
    mask = torch.zeros(4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="one shape"):
        measure(mask, mask[:3])
    with pytest.raises(ValueError, match="boolean"):
        measure(mask, mask.float())
    with pytest.raises(ValueError, match="one shape"):
        measure(mask[:, :0], mask[:, :0])


@pytest.mark.parametrize("runs", [[], [(0, 1, 0)]])
def test_an_empty_footprint_is_refused(runs: list) -> None:
    mask = torch.zeros(4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="at least one run"):
        boundary_accuracy(mask, mask, runs=runs)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_equals_cpu() -> None:
    pred, target = torch.rand(2, 5, 2, 120, 213).lt(0.02).unbind()
    for there, here in zip(j_and_f(pred.cuda(), target.cuda()), j_and_f(pred, target), strict=True):
        assert there.is_cuda
        torch.testing.assert_close(there.cpu(), here, atol=1e-14, rtol=0)
