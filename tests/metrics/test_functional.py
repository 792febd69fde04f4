"""J and F against the official scorer's values, a slow reference, and their own algebra."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.metrics import boundary_accuracy, region_similarity
from common.metrics.functional import CHUNK, _boundaries, _f_measure, _matches, boundary_tolerance, disk_runs

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


def slow_f(pred: np.ndarray, target: np.ndarray) -> float:
    radius = math.ceil(0.008 * math.sqrt(pred.shape[0] ** 2 + pred.shape[1] ** 2))
    mine, theirs = slow_boundary(pred), slow_boundary(target)
    if not mine or not theirs:
        return float(not mine and not theirs)

    def share(some: set, others: set) -> float:
        near = [any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in others) for y, x in some]
        return sum(near) / len(near)

    precision, recall = share(mine, theirs), share(theirs, mine)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@st.composite
def mask_pairs(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs of blobs, noise, full and empty masks of any small size, with pixels at the borders."""
    height, width = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))

    def one() -> np.ndarray:
        kind = draw(st.sampled_from(["empty", "full", "noise", "box", "box"]))
        if kind == "noise":
            return random.random((height, width)) < random.random()
        mask = np.full((height, width), kind == "full")
        if kind == "box":
            (top, bottom), (left, right) = (sorted(random.integers(0, n + 1, 2)) for n in (height, width))
            mask[top:bottom, left:right] = True
        return mask

    return torch.from_numpy(one()), torch.from_numpy(one())


@pytest.mark.parametrize("name", EDGES)
def test_edge_frames_equal_the_official_scorer(name: str) -> None:
    arrays, shape = np.load(GOLDEN / "edge_frames.npz"), EDGES[name]["shape"]
    pred, target = (
        torch.from_numpy(np.unpackbits(arrays[f"{name}__{kind}"])[: math.prod(shape)].reshape(shape)).bool()
        for kind in ("pred", "gt")
    )
    assert boundary_tolerance(*shape) == EDGES[name]["bound_pix"]
    assert region_similarity(pred, target).item() == pytest.approx(EDGES[name]["J"], abs=1e-9)
    assert boundary_accuracy(pred, target).item() == pytest.approx(EDGES[name]["F"], abs=1e-9)


@pytest.mark.parametrize("prefix", CASES)
def test_every_frame_and_object_equals_the_official_scorer(golden_root: Path, prefix: str) -> None:
    case, pred, gt = golden_case(golden_root, prefix)
    ids, void = case["per_frame"]["objects"], (gt == 255)[:, None]
    masks = split(pred, ids), split(gt, ids)
    for key, ignored in (("", None), ("_void", void)):
        if f"J{key}" in case["per_frame"]:
            want = {k: torch.tensor(case["per_frame"][k + key], dtype=torch.float64).T for k in "JF"}
            torch.testing.assert_close(region_similarity(*masks, ignored), want["J"], atol=1e-9, rtol=0)
            torch.testing.assert_close(boundary_accuracy(*masks, ignored), want["F"], atol=1e-9, rtol=0)


@settings(max_examples=150, deadline=None)
@given(mask_pairs())
def test_equals_the_slow_reference(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    pred, target = (mask.numpy() for mask in pair)
    union = (pred | target).sum()
    assert region_similarity(*pair).item() == ((pred & target).sum() / union if union else 1.0)
    assert boundary_accuracy(*pair).item() == pytest.approx(slow_f(pred, target), abs=1e-12)


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
@given(mask_pairs())
def test_the_whole_image_path_equals_the_cropped_one(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    pairs = torch.stack(pair)[:, None]
    whole = _f_measure(
        *_matches(_boundaries(pairs, True, True), disk_runs(boundary_tolerance(*pairs.shape[-2:]))).double()
    )
    assert whole.item() == boundary_accuracy(*pair).item()


def test_batches_of_any_shape_are_measured_one_by_one() -> None:
    pred, target = torch.rand(2, 2, 3, 17, 31).lt(0.1).unbind()
    target[0, 1], pred[1, 0] = False, False
    for measure in (region_similarity, boundary_accuracy):
        pairs = zip(pred.flatten(0, 1), target.flatten(0, 1), strict=True)
        one_by_one = torch.stack([measure(*pair) for pair in pairs]).view(2, 3)
        assert torch.equal(measure(pred, target), one_by_one)
        assert torch.equal(measure(pred.mT.contiguous().mT, target), one_by_one)  # strides do not matter
        assert measure(pred[:0], target[:0]).shape == (0, 3)
        assert measure(pred[0, 0], target[0, 0]).shape == ()


def test_more_boundary_pixels_than_one_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    pred, target = torch.rand(2, 40, 60).lt(0.5).unbind()
    at_once = boundary_accuracy(pred, target)
    assert CHUNK > 2 * 40 * 60
    monkeypatch.setattr("common.metrics.functional.CHUNK", 100)
    assert boundary_accuracy(pred, target) == at_once


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_equals_cpu() -> None:
    pred, target = torch.rand(2, 5, 2, 120, 213).lt(0.02).unbind()
    for measure in (region_similarity, boundary_accuracy):
        torch.testing.assert_close(measure(pred.cuda(), target.cuda()).cpu(), measure(pred, target), atol=1e-14, rtol=0)
