"""HOTA, OWTA and track AP: by hand, and the values of BURST's evaluation program."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from common.metrics import HOTAMetrics
from common.metrics.hota import BURSTFrames

COMMON, UNCOMMON = (4, 13, 34), (1, 2, 3)  # classes of LVIS
GROUPS = {"": None, "_common": COMMON, "_uncommon": UNCOMMON}


class Track(NamedTuple):
    category: int
    score: float
    boxes: np.ndarray  # (T, 4), rows (y0, x0, y1, x1); empty: not there


class Clip(NamedTuple):
    true: dict[int, Track]
    said: dict[int, Track]
    negative: list[int]
    not_exhaustive: list[int]


def made_up(seed: int = 4) -> list[Clip]:
    """Videos of 6 frames of 40 x 50: tracks that leave, are found late, swapped, split, of another class, or not there.

    One frame of some holds no true mask. Some classes are known to be absent, some are not labelled exhaustively.
    """
    rng = np.random.RandomState(seed)
    clips = []
    for _ in range(5):
        true = {id: walk(rng, rng.choice([4, 13, 1, 2])) for id in range(1, rng.randint(2, 6))}
        if rng.rand() < 0.5:
            for track in true.values():
                track.boxes[3] = 0
        said = {}
        for id, track in true.items():
            if rng.rand() < 0.8:
                moved = np.where(rng.rand(6, 1) < 0.15, 0, track.boxes + rng.randint(-2, 3, (6, 4)))
                category = track.category if rng.rand() < 0.8 else int(rng.choice([4, 13, 34, 3]))
                said[id] = Track(category, round(rng.rand(), 1), moved * (track.boxes.any(1, keepdims=True)))
        if len(said) > 1:  # identities are swapped halfway
            first, second = list(said.values())[:2]
            first.boxes[3:], second.boxes[3:] = second.boxes[3:].copy(), first.boxes[3:].copy()
        said |= {10 + n: walk(rng, rng.choice([4, 34, 3, 2])) for n in range(rng.randint(3))}
        there = {track.category for track in true.values()}
        negative = [c for c in (34, 3, 4) if c not in there and rng.rand() < 0.6]
        clips.append(Clip(true, said, negative, [c for c in sorted(there) if rng.rand() < 0.3]))
    return clips


def walk(rng: np.random.RandomState, category: int) -> Track:
    corner = rng.randint(0, 22, 2) + rng.randint(-2, 3, (6, 2)).cumsum(0)
    boxes = np.concatenate([corner, corner + rng.randint(8, 16, 2)], 1)
    return Track(int(category), round(rng.rand(), 1), np.where(rng.rand(6, 1) < 0.15, 0, boxes))


def masks(tracks: dict[int, Track], t: int) -> np.ndarray:
    """The masks of a frame, bool (N, 40, 50)."""
    out = np.zeros((len(tracks), 40, 50), dtype=bool)
    for mask, track in zip(out, tracks.values(), strict=True):
        y0, x0, y1, x1 = track.boxes[t].clip(0)
        mask[y0:y1, x0:x1] = True
    return out


def measured(clips: list[Clip], **settings: object) -> Iterator[dict[str, torch.Tensor]]:
    for video, clip in enumerate(clips):
        frames = BURSTFrames(clip.negative, clip.not_exhaustive, **settings)
        for t in range(6):
            shapes = (torch.from_numpy(masks(tracks, t)) for tracks in (clip.said, clip.true))
            kinds = ([track.category for track in tracks.values()] for tracks in (clip.said, clip.true))
            scores = [track.score for track in clip.said.values()]
            frames.add(*shapes, list(clip.said), list(clip.true), scores, *kinds)
        yield frames.result(video)


@pytest.mark.parametrize("task", ["class_guided", "exemplar_guided", "open_world"])
def test_values_of_the_official_program(task: str) -> None:
    want = json.loads((Path(__file__).parent.parent / "golden" / "vs" / "burst.json").read_text())[task]
    assert official(made_up(), task) == pytest.approx(want, abs=1e-12)


def official(clips: list[Clip], task: str) -> dict[str, float]:
    """Our numbers of a task."""
    metric = HOTAMetrics(GROUPS)
    if task == "open_world":  # everything is of class 1, and so counts as not exhaustive where class 1 of LVIS is
        metric = HOTAMetrics()
        both = [
            [{id: track._replace(category=1) for id, track in tracks.items()} for tracks in clip[:2]] for clip in clips
        ]
        clips = [Clip(*tracks, *clip[2:]) for tracks, clip in zip(both, clips, strict=True)]
    for video in measured(clips, federated=task != "exemplar_guided"):
        metric.extend(**video)
    names = ("OWTA", "DetRe", "AssA") if task == "open_world" else ("HOTA", "DetA", "AssA", "AP")
    return {k: float(v) for k, v in metric.compute().items() if k.split("_")[0] in names}


# By hand.


def blocks(*frames: str) -> torch.Tensor:
    """Masks bool (T, 2, 2, 8) of tracks a and b; each letter is a block of 2 x 2 pixels of 4."""
    out = torch.zeros(len(frames), 2, 2, 8, dtype=torch.bool)
    for t, frame in enumerate(frames):
        for place, letter in enumerate(frame):
            if letter != ".":
                out[t, "ab".index(letter), :, 2 * place : 2 * place + 2] = True
    return out


def numbers(preds: torch.Tensor, target: torch.Tensor, kinds: tuple[int, int] = (1, 1)) -> dict[str, float]:
    metric = HOTAMetrics()
    metric.update(preds, target, [0.9, 0.8], kinds, [1, 1])
    return {name: float(value) for name, value in metric.compute().items()}


def test_a_perfect_answer() -> None:
    masks = blocks("a..b", "a..b")
    assert numbers(masks, masks) == dict.fromkeys(("HOTA", "DetA", "AssA", "AP", "OWTA", "DetRe"), 1)


def test_identities_swapped_halfway() -> None:
    # Each pair is matched in half of both tracks, of 4 frames: 2 / (4 + 4 - 2).
    got = numbers(blocks("a..b", "a..b", "b..a", "b..a"), blocks(*["a..b"] * 4))
    assert (got["DetA"], got["DetRe"]) == (1, 1)
    assert got["AssA"] == pytest.approx(1 / 3)
    assert got["HOTA"] == pytest.approx(math.sqrt(1 / 3))


def test_thresholds_and_missing_masks() -> None:
    # Frame 0: a is met with IoU 1, and b missed; frame 1: a with IoU 1/2, at the thresholds 0.05 to 0.50; b too many.
    preds, target = blocks("a...", "aa.b"), blocks("a..b", "a...")
    # Up to 0.50 TP 2, FN 1, FP 1; the pair has 2 of 2 frames: 1. Above: TP 1, FN 2, FP 2; 1 of 2 + 2 - 1.
    got = numbers(preds, target)
    assert got["DetA"] == pytest.approx((10 * 2 / 4 + 9 * 1 / 5) / 19)
    assert got["DetRe"] == pytest.approx((10 * 2 / 3 + 9 * 1 / 3) / 19)
    assert got["AssA"] == pytest.approx((10 * 1 + 9 * 1 / 3) / 19)
    assert got["HOTA"] == pytest.approx((10 * math.sqrt(1 / 2) + 9 * math.sqrt(1 / 5 / 3)) / 19)
    assert got["OWTA"] == pytest.approx((10 * math.sqrt(2 / 3) + 9 * math.sqrt(1 / 3 / 3)) / 19)


def test_the_better_aligned_track_is_taken() -> None:
    # In frame 1 both answers cover the object alike; track b does so in the other frames, and so it is matched.
    preds = blocks("b...", "b...", "b...")
    preds[1, 0] = preds[1, 1]
    got = numbers(preds, blocks("a...", "a...", "a..."))
    assert got["AssA"] == 1
    assert got["DetA"] == 3 / 4


def test_videos_are_pooled_by_true_positives() -> None:
    metric = HOTAMetrics()
    a = blocks("a...", "a...")
    metric.update(a, a, [0.9, 0.8], [1, 1], [1, 1])  # TP 2 with association 1
    metric.update(blocks("a...", "b..."), a, [0.9, 0.8], [1, 1], [1, 1])  # TP 2 with association 1 / 2
    metric.update(torch.zeros_like(a), a, [0.9, 0.8], [1, 1], [1, 1])  # FN 2
    got = metric.compute()
    assert float(got["AssA"]) == pytest.approx((2 * 1 + 2 * 1 / 2) / 4)
    assert float(got["DetA"]) == pytest.approx(4 / 6)


def test_nothing_predicted_is_zero() -> None:
    got = numbers(torch.zeros(1, 2, 2, 8, dtype=torch.bool), blocks("a..b"))
    assert set(got.values()) == {0}


def test_classes_count_alike_and_only_where_they_are() -> None:
    # Class 1 has two objects, one found; class 2 one, which is found; class 3 is only predicted.
    metric = HOTAMetrics({"": None, "_common": [1]})
    metric.update(blocks("a..."), blocks("a..b"), [0.9, 0.8], [1, 1], [1, 1])
    metric.update(blocks("a..b"), blocks("a..."), [0.9, 0.8], [2, 3], [2, 2])
    got = metric.compute()
    assert float(got["DetA"]) == pytest.approx((1 / 2 + 1) / 2)
    assert float(got["DetA_common"]) == 0.5
    assert HOTAMetrics({"_rare": [7]}).groups == {"_rare": [7]}


def federated(negative: list[int], not_exhaustive: list[int], kind: int, **settings: bool) -> dict[str, float]:
    """Two frames of an object of class 1 that is found; in frame 1 something of class ``kind`` is said beside it."""
    frames = BURSTFrames(negative, not_exhaustive, **settings)
    preds, target = blocks("a...", "a..b"), blocks("a...", "a...")
    for said, true in zip(preds, target, strict=True):
        frames.add(said, true, [5, 6], [1, 2], [0.9, 0.95], [1, kind], [1, 1])
    metric = HOTAMetrics()
    metric.extend(**frames.result())
    false = metric.rows[:, -20]  # at the last threshold; behind it are 19 sums of association
    return {"FP": float(false.nansum()), **{name: float(value) for name, value in metric.compute().items()}}


def test_what_nobody_has_labelled_is_dropped() -> None:
    assert federated([], [], kind=1)["DetA"] == pytest.approx(2 / 3)  # a mistake: class 1 is labelled
    assert federated([], [], kind=1)["AP"] == pytest.approx(0.5)  # the mistake has the higher score
    for key in ("DetA", "AP"):
        assert federated([], [1], kind=1)[key] == 1  # not exhaustively
    assert federated([], [1], kind=1, federated=False)["DetA"] == pytest.approx(2 / 3)
    assert federated([], [], kind=2)["FP"] == 0  # class 2 is not labelled in this video
    assert federated([2], [], kind=2)["FP"] == 1  # it is: there is none
    assert federated([], [], kind=2, federated=False)["FP"] == 1


def test_frames_without_any_true_mask_are_left_out() -> None:
    got = numbers(blocks("a...", "a..."), blocks("a...", "...."))
    assert got["DetA"] == 1
    assert got["AP"] == pytest.approx(0.1)  # but the track has an IoU of 1/2


def test_sizes_are_checked() -> None:
    frames, mask = BURSTFrames(), torch.zeros(1, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"\(1, 4, 4\) and torch.bool \(1, 4, 3\)"):
        frames.add(mask, mask[..., 1:], [1], [1], [0.5], [1], [1])
