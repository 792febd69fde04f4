"""G and decay of VIPOSeg: by hand, and the values of its evaluation program."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from common.metrics import VIPOSegMetrics
from common.metrics.viposeg import SUBSETS, boundary, mask_and_boundary_iou, subset_of

NAN = float("nan")
CLASSES = {1: 60, 2: 102, 3: 28, 4: 9, 5: 98}  # of the objects: one of each subset, and "other machine"
VIDEOS = ("0_a", "187_WUZUSD4477I", "2_c")


def made_up(seed: int = 9) -> dict[str, tuple[np.ndarray, np.ndarray, dict[int, int]]]:
    """Predicted and true label maps uint8 (T, 45, 60) of each video, and the frame in which each object is given."""
    rng = np.random.RandomState(seed)
    videos = {}
    for name in VIDEOS:
        said, true = np.zeros((2, 7, 45, 60), dtype=np.uint8)
        given = {id: int(rng.randint(4)) if id > 1 else 0 for id in CLASSES}
        corners = rng.randint(0, 30, (6, 2))
        for t in range(7):
            for id, first in given.items():
                size, shift = 8 + 2 * id, rng.randint(-2, 3, 2)
                for maps, (y, x) in ((true, corners[id] + t), (said, corners[id] + t + shift)):
                    leaves = (id == 3 and t > 4 and maps is true) or (id == 2 and t == 5)
                    if t >= first and not leaves:
                        maps[t, max(y, 0) : y + size, max(x, 0) : x + size] = id
        for id, first in given.items():
            true[first, id, :2] = id  # it is there
        videos[name] = said, true, given
    return videos


def numbers(metric: VIPOSegMetrics) -> dict[str, float]:
    return {name: float(value) for name, value in metric.compute().items()}


def test_values_of_the_official_program() -> None:
    want = json.loads((Path(__file__).parent.parent / "golden" / "vs" / "viposeg.json").read_text())
    metric = VIPOSegMetrics()
    ids = torch.tensor(list(CLASSES))
    for name, (said, true, given) in made_up().items():
        masks = [torch.from_numpy(maps)[:, None] == ids[:, None, None] for maps in (said, true)]
        subsets = torch.tensor([subset_of(kind, name) for kind in CLASSES.values()])
        metric.update(*masks, torch.tensor([given[id] for id in CLASSES]), subsets)
    assert numbers(metric) == pytest.approx(want, abs=1e-12)


def test_subsets() -> None:
    names = [SUBSETS[subset_of(category, "0_a")] for category in (60, 102, 28, 9, 26, 98)]
    # class 26 is in the program's list of unseen stuff, though not in its list of stuff
    assert names == ["thing_seen", "thing_unseen", "stuff_seen", "stuff_unseen", "stuff_unseen", "stuff_seen"]
    assert SUBSETS[subset_of(98, "187_WUZUSD4477I")] == "stuff_unseen"
    counts = torch.bincount(torch.tensor([subset_of(category, "0_a") for category in range(124)]))
    assert counts.tolist() == [41, 17, 49, 17]


# By hand.


def test_an_object_does_not_count_where_it_is_given() -> None:
    target = torch.zeros(3, 2, 8, 8, dtype=torch.bool)
    target[:, 0, :4, :4], target[1:, 1, 4:, 4:] = True, True
    preds = target.clone()
    preds[0, 0] = preds[1, 1] = preds[2, 1] = False
    metric = VIPOSegMetrics()
    metric.update(preds, target, prompt_frames=torch.tensor([0, 1]), subset=torch.tensor([0, 3]))
    got = numbers(metric)
    # Object 0 counts in frames 1 and 2, object 1 in frame 2 only.
    assert (got["thing_seen"], got["stuff_unseen"]) == (1, 0)
    assert metric.sorted_rows()[:, [0, 1, 4]].tolist() == [[0, 1, 1], [0, 2, 1], [3, 2, 1]]


def test_empty_masks() -> None:
    # Both empty; only the true one; only the predicted one; both the same.
    preds, target = torch.zeros(2, 4, 6, 6, dtype=torch.bool)
    target[1, 2, 2] = preds[2, 2, 2] = preds[3, 1:4, 1:4] = target[3, 1:4, 1:4] = True
    assert [values.tolist() for values in mask_and_boundary_iou(preds, target)] == [[1, 0, 0, 1]] * 2


def test_the_border_of_the_image_is_boundary() -> None:
    # 5 x 5 and at least 1 pixel wide: the ring of 16 pixels.
    ring = torch.ones(5, 5, dtype=torch.bool)
    ring[1:4, 1:4] = False
    assert boundary(torch.ones(5, 5, dtype=torch.bool)).equal(ring)
    # 90 x 120: diagonal 150, so 3 pixels wide, and the corners of a hole are seen on the square's diagonal.
    mask = torch.ones(90, 120, dtype=torch.bool)
    mask[40, 50] = False
    want = mask.clone()
    want[3:-3, 3:-3] = False
    want[37:44, 47:54] = True
    want[40, 50] = False
    assert boundary(mask).equal(want)


def test_boundary_iou_by_hand() -> None:
    # 4 x 4 against the same moved by one: masks 12 / 20; rings of 12 with 2 + 2 + 2 = 6 in common: 6 / 18.
    preds, target = torch.zeros(2, 1, 9, 9, dtype=torch.bool)
    target[0, 2:6, 2:6] = preds[0, 2:6, 3:7] = True
    mask_iou, boundary_iou = mask_and_boundary_iou(preds, target)
    assert mask_iou.tolist() == [12 / 20]
    common = (boundary(preds[0]) & boundary(target[0])).sum()
    assert boundary_iou.tolist() == [float(common) / (24 - float(common))] == [6 / 18]


def one(mask_iou: float, boundary_iou: float, object_count: int, subset: int) -> dict[str, Tensor]:
    """A video of one frame and object."""
    table = torch.tensor([[mask_iou], [boundary_iou], [object_count]], dtype=torch.float64)[:, None]
    return {
        **dict(zip(("mask_iou", "boundary_iou", "object_count"), table, strict=True)),
        "subset": torch.tensor([subset]),
    }


def test_g_is_the_plain_mean_of_the_subsets() -> None:
    metric = VIPOSegMetrics()
    for subset in range(3):
        metric.extend(**one(0.8, 0.4, object_count=1, subset=subset))
    got = numbers(metric)
    assert got["thing_seen"] == pytest.approx(0.6)
    assert math.isnan(got["G"])  # no stuff of unseen classes
    for _ in range(5):  # many pairs of one subset weigh as much as one of another
        metric.extend(**one(0.2, 0.0, object_count=1, subset=3))
    assert numbers(metric)["G"] == pytest.approx((3 * 0.6 + 0.1) / 4)


def test_decay_by_hand() -> None:
    # Mean IoU exp(-0.3) with 10 and exp(-0.9) with 30 objects: both on exp(-3 n / 100). With 60 it does not count.
    metric = VIPOSegMetrics()
    for value, object_count in ((math.exp(-0.3), 10), (math.exp(-0.9), 30), (0.0, 60)):
        metric.extend(**one(value, value, object_count, subset=0))
    assert numbers(metric)["decay"] == pytest.approx(3)
    # Off the curve: x = 0.1, 0.2 and -log y = 0.1, 0.4: (0.01 + 0.08) / (0.01 + 0.04)
    metric = VIPOSegMetrics()
    for value, object_count in ((math.exp(-0.1), 10), (math.exp(-0.4), 20)):
        metric.extend(**one(value, value, object_count, subset=0))
    assert numbers(metric)["decay"] == pytest.approx(0.09 / 0.05)


def test_frames_that_do_not_count() -> None:
    metric = VIPOSegMetrics()
    ious = torch.tensor([[NAN, 0.5], [1.0, NAN]], dtype=torch.float64)
    metric.extend(ious, ious, torch.ones(2, 2), torch.tensor([0, 0]))
    assert numbers(metric)["thing_seen"] == 0.75
