"""AP and AR of mask tracks: by hand, and the values of the YouTube-VIS evaluation program."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from common.metrics import VISMetrics
from common.metrics.tubes import TrackOverlaps
from common.metrics.vis_ap import match_tracks

NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100"]


class Tracks(NamedTuple):
    """The tracks of one video: bool (T, N, H, W), their categories and scores, and which are crowds."""

    masks: np.ndarray
    categories: list[int]
    scores: list[float]
    crowd: list[bool]


def made_up(seed: int = 7) -> list[tuple[Tracks, Tracks]]:
    """Predicted and true tracks of 8 videos: boxes that wander, leave, are missed, mistaken or seen twice."""
    rng = np.random.RandomState(seed)
    videos = []
    for _ in range(8):
        true, said = [], []
        for _ in range(rng.randint(5)):
            box = walk(rng, size=rng.choice([60, 180, 270]))
            true.append((box, rng.randint(1, 4), 1.0, rng.rand() < 0.15))
            for _ in range(rng.randint(3)):
                shifted = np.where(rng.rand(4, 1) < 0.15, 0, box + rng.randint(-12, 13, (4, 4)))
                category = true[-1][1] if rng.rand() < 0.8 else rng.randint(1, 4)
                said.append((shifted, category, round(rng.rand(), 1), False))
        said += [(walk(rng, 100), rng.randint(1, 5), round(rng.rand(), 1), False) for _ in range(rng.randint(3))]
        videos.append((drawn(said), drawn(true)))
    return videos


def walk(rng: np.random.RandomState, size: int) -> np.ndarray:
    """Boxes (4, 4) of four frames, rows (y0, x0, y1, x1); some are empty."""
    corner = rng.randint(0, 300 - size, (1, 2)) + rng.randint(-9, 10, (4, 2)).cumsum(0)
    return np.where(rng.rand(4, 1) < 0.2, 0, np.concatenate([corner, corner + size], 1))


def drawn(tracks: list[tuple[np.ndarray, int, float, bool]]) -> Tracks:
    masks = np.zeros((4, len(tracks), 280, 300), dtype=bool)
    for n, (boxes, *_) in enumerate(tracks):
        for t, (y0, x0, y1, x1) in enumerate(boxes.clip(0)):
            masks[t, n, y0:y1, x0:x1] = True
    _, *rest = zip(*tracks, strict=True) if tracks else ((), (), (), ())
    return Tracks(masks, *(list(values) for values in rest))


def test_values_of_the_official_program() -> None:
    want = json.loads((Path(__file__).parent.parent / "golden" / "vs" / "vis_ap.json").read_text())
    metric = VISMetrics()
    for video, (said, true) in enumerate(made_up()):
        overlaps = TrackOverlaps()
        here, there = range(len(said.categories)), range(len(true.categories))
        for frame in zip(torch.from_numpy(said.masks), torch.from_numpy(true.masks), strict=True):
            overlaps.add(*frame, here, there)
        areas = overlaps.mean_areas(here), overlaps.mean_areas(there, true=True)
        iou, kinds = overlaps.iou(here, there), (said.categories, true.categories)
        metric.extend(**match_tracks(iou, said.scores, *kinds, *areas, true.crowd, video))
    got = metric.compute()
    assert list(got) == NAMES
    assert {name: float(value) for name, value in got.items()} == pytest.approx(want, abs=1e-12)


# By hand: everything has area 100 and so is small.


def one(iou: list[list[float]], scores: list[float], **given: object) -> dict[str, Tensor]:
    """One video and one category, with these overlaps of P detections and G true tracks."""
    table = torch.tensor(iou, dtype=torch.float64).reshape(len(scores), -1)
    areas = torch.full((len(scores),), 100.0), torch.full((table.shape[1],), 100.0)
    known = {"areas": areas[0], "target_areas": areas[1], **given}
    return match_tracks(table, scores, [1] * len(scores), [1] * table.shape[1], **known)


def numbers(*videos: dict[str, Tensor]) -> dict[str, float]:
    metric = VISMetrics()
    for video in videos:
        metric.extend(**video)
    return {name: round(float(value), 9) for name, value in metric.compute().items()}


def test_a_perfect_answer() -> None:
    masks = torch.rand(3, 2, 4, 4) < 0.5
    metric = VISMetrics()
    metric.update(masks, masks, scores=[0.3, 0.2], categories=[0, 1], target_categories=[0, 1])
    got = metric.compute()
    assert all(got[name] == 1 for name in ("AP", "AP50", "APs", "AR1", "AR100"))
    assert got["APm"].isnan()
    assert got["APl"].isnan()


def test_half_the_frames_are_half_the_overlap() -> None:
    # A track in 2 of 4 frames, each of equal area: IoU 0.5, right at the threshold 0.50 and at none of the other nine.
    target = torch.zeros(4, 1, 3, 3, dtype=torch.bool)
    target[:, :, 1] = True
    preds = target.clone()
    preds[2:] = False
    metric = VISMetrics()
    metric.update(preds, target, [1.0], [0], [0])
    assert metric.compute()["AP50"] == 1
    assert float(metric.compute()["AP"]) == pytest.approx(0.1)


def test_overlap_is_of_sums_over_frames() -> None:
    # Said 2 + 4 + 3 + 0 = 9 pixels, true 4 + 4 + 0 + 5 = 13, common 2 + 4 = 6: 6 / (9 + 13 - 6) = 3 / 8.
    said, true = torch.zeros(4, 1, 1, 5, dtype=torch.bool), torch.zeros(4, 1, 1, 5, dtype=torch.bool)
    for t, (a, b) in enumerate(((2, 4), (4, 4), (3, 0), (0, 5))):
        said[t, ..., :a], true[t, ..., :b] = True, True
    overlaps = TrackOverlaps()
    for frame in zip(said, true, strict=True):
        overlaps.add(*frame, [7], [3])
    assert overlaps.iou([7, 8], [3, 4]).tolist() == [[0.375, 0], [0, 0]]
    assert overlaps.mean_areas([7, 8]).tolist() == [3, 0]  # empty masks do not count
    assert overlaps.mean_areas([3], true=True).tolist() == [13 / 3]


def test_precision_is_interpolated() -> None:
    # Right, wrong, right of two tracks: precision 1 up to recall 0.5 (51 of 101 points), then 2 / 3 (50 points).
    got = numbers(one([[1, 0], [0, 0], [0, 1]], [0.9, 0.8, 0.7]))
    assert got["AP50"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert (got["AR1"], got["AR10"]) == (0.5, 1)


def test_only_the_hundred_best_of_a_video_and_category() -> None:
    wrong = [[0.0]] * 100
    assert numbers(one([*wrong, [1]], [0.5] * 100 + [0.4]))["AR100"] == 0
    assert numbers(one([*wrong[1:], [1]], [0.5] * 99 + [0.4]))["AR100"] == 1


def test_the_later_of_equal_tracks_is_taken() -> None:
    # Both tracks fit the first detection alike; it takes the second, and leaves the first to the other detection.
    assert numbers(one([[0.6, 0.6], [0.9, 0]], [0.9, 0.8]))["AP50"] == 1


def test_crowds_are_ignored_and_taken_again() -> None:
    # At 0.50, 0.55, 0.60 the first detection takes the real track, and the last is wrong after all is found: AP 1. At
    # 0.65 and 0.70 the first three take the crowd and do not count, the last is right: AP 1. Above: 0.
    got = numbers(one([[0.9, 0.6], [0.9, 0], [0.9, 0], [0, 0.7]], [0.9, 0.8, 0.7, 0.6], crowd=[True, False]))
    assert (got["AP"], got["AP50"], got["AP75"], got["AR1"], got["AR10"]) == (0.5, 1, 0, 0.3, 0.5)


def test_ranges_of_area_share_their_ends() -> None:
    edge = torch.tensor([128.0**2])
    got = numbers(one([[1]], [0.9], areas=edge, target_areas=edge))
    assert (got["APs"], got["APm"]) == (1, 1)
    # An unmatched large detection does not count among the small ones, and does count in all.
    got = numbers(one([[0], [1]], [0.9, 0.8], areas=torch.tensor([1e5, 100.0])))
    assert (got["APs"], got["AP"]) == (1, 0.5)


def test_a_category_is_left_out_or_zero() -> None:
    lost = match_tracks(torch.zeros(0, 1), [], [], [2], torch.zeros(0), torch.full((1,), 100.0))
    only_said = match_tracks(torch.zeros(1, 0), [0.9], [3], [], torch.full((1,), 100.0), torch.zeros(0))
    found = one([[1]], [0.9])
    assert numbers(found, only_said)["AP"] == 1  # nothing of category 3 is there to be found
    assert numbers(found, lost)["AP"] == 0.5  # nothing of category 2 was said: AP 0


def test_equal_scores_come_in_the_order_of_the_videos() -> None:
    right, wrong = one([[1]], [0.5], video=0), one([[0]], [0.5], video=1)
    assert numbers(wrong, right)["AP50"] == pytest.approx(51 / 101)  # precision 1 up to recall 0.5
    right["video"] += 2
    assert numbers(wrong, right)["AP50"] == pytest.approx(51 / 2 / 101)


def test_masks_must_fit() -> None:
    overlaps, mask = TrackOverlaps(), torch.zeros(1, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"\(1, 4, 4\) and torch.bool \(1, 3, 4\)"):
        overlaps.add(mask, mask[:, 1:], [1], [1])
    with pytest.raises(ValueError, match=r"\(N,\)"):
        VISMetrics().extend(*torch.zeros(4, 2), torch.zeros(4, 10, 1))
