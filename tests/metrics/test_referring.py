"""J&F of Ref-DAVIS: by hand, and the values of davis2017-evaluation in its unsupervised mode."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from common.metrics import ReferringMetrics
from common.metrics.referring import assign, pairwise_j_and_f


def made_up(seed: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    """Predicted and true label maps of videos, uint8 (T, 60, 80) each, 255 void in the true ones.

    Discs that move; objects 1 and 2 are answered the wrong way round, one is lost, one too many is found.
    """
    rng = np.random.RandomState(seed)
    y, x = np.mgrid[:60, :80]
    videos = []
    for objects, proposals in ((1, 1), (2, 2), (3, 2), (2, 4)):
        start = rng.randint(10, 50, (4, 2))
        speed, radius, error = rng.randint(-3, 4, (4, 2)), rng.randint(5, 14, 4), rng.randint(-3, 4, (4, 2))
        true, said = np.zeros((2, 6, 60, 80), dtype=np.uint8)
        for t in range(6):
            for n in range(4):
                for maps, shift, count in ((true, 0, objects), (said, error[n], proposals)):
                    cy, cx = start[n] + t * speed[n] + shift
                    label = n + 1 if maps is true or n > 1 or objects == 1 else 2 - n
                    if n < count:
                        maps[t][(y - cy) ** 2 + (x - cx) ** 2 < radius[n] ** 2] = label
        for n in range(objects):  # the first frame shows them all
            true[0, 2 * n, :3] = n + 1
        true[rng.rand(*true.shape) < 0.01] = 255
        videos.append((said, true))
    return videos


def test_values_of_the_official_program() -> None:
    want = json.loads((Path(__file__).parent.parent / "golden" / "vs" / "referring.json").read_text())
    metric = ReferringMetrics()
    for said, true in made_up():
        ids = [np.arange(1, maps[maps != 255].max() + 1)[None, :, None, None] for maps in (said, true)]
        preds, target = (torch.from_numpy(maps[:, None] == some) for maps, some in zip((said, true), ids, strict=True))
        metric.update(preds, target, torch.from_numpy(true == 255))
    got = metric.compute()
    assert list(got) == ["J&F", "J", "F", "J&F_fixed", "J_fixed", "F_fixed"]
    assert {name: float(got[name]) for name in want} == pytest.approx(want, abs=1e-12)


# By hand.


def blocks() -> torch.Tensor:
    """Two objects in 2 frames, bool (2, 2, 20, 20)."""
    masks = torch.zeros(2, 2, 20, 20, dtype=torch.bool)
    masks[:, 0, 2:8, 2:8] = masks[:, 1, 12:18, 12:18] = True
    return masks


def test_swapped_identities_are_forgiven_and_told() -> None:
    metric = ReferringMetrics()
    metric.update(blocks().flip(1), blocks())
    got = metric.compute()
    assert (got["J&F"], got["J&F_fixed"]) == (1, 0)


def test_identities_are_assigned_once_a_video() -> None:
    # Right in one frame of two, swapped in the other: either way each object is right half the time.
    preds = torch.cat([blocks()[:1], blocks()[1:].flip(1)])
    metric = ReferringMetrics()
    metric.update(preds, blocks())
    assert metric.compute()["J&F"] == 0.5


def test_the_sum_is_the_highest_possible() -> None:
    # J = F = 0.9 and 0.8 with the first object, 0.7 and 0 with the second: 0.8 + 0.7 is more than 0.9 + 0.
    table = torch.tensor([[[0.9, 0.7], [0.8, 0.0]]], dtype=torch.float64)
    got = assign(table, table)
    assert got["j"].tolist() == [[0.8, 0.7]]
    assert got["j_fixed"].tolist() == [[0.9, 0.0]]


def test_an_object_without_answer_is_answered_by_nothing() -> None:
    j, f = pairwise_j_and_f(blocks()[0, :1], blocks()[0])
    assert j.tolist() == f.tolist() == [[1, 0], [0, 0]]
    j, _ = pairwise_j_and_f(blocks()[0, :0], torch.zeros(1, 20, 20, dtype=torch.bool))
    assert j.tolist() == [[1]]  # both empty
    with pytest.raises(ValueError, match="21 predicted objects; the unsupervised mode of DAVIS takes 20"):
        pairwise_j_and_f(torch.zeros(21, 2, 2, dtype=torch.bool), blocks()[0, :, :2, :2])


def test_void_does_not_count() -> None:
    preds, void = blocks(), torch.zeros(2, 20, 20, dtype=torch.bool)
    preds[:, 0, 8:11, 2:8] = void[:, 8:11] = True
    metric = ReferringMetrics()
    metric.update(preds, blocks(), void)
    assert metric.compute()["J&F"] == 1


def test_sets_count_alike() -> None:
    metric = ReferringMetrics()
    for group, value in ((0, [[0.2, 0.4]]), (1, [[0.9]])):
        values = torch.tensor(value, dtype=torch.float64)
        metric.extend(values, values, values, values, torch.full((len(value[0]),), group))
    assert float(metric.compute()["J"]) == pytest.approx((0.3 + 0.9) / 2)
