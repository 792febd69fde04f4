"""mIoU and mVC: by hand, and the values of the VSPW evaluation programs."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from common.metrics import VSPWMetrics
from common.metrics.vspw import SemanticFrames


def made_up(seed: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    """Predicted (classes 0 to 5) and true labels (0 others, 1 to 6, 255 void) of videos, uint8 (T, 12, 16) each.

    Videos of 5, 8, 9, 16, 17 and 25 frames, so that there are some without any clip. Class 5 is predicted but never
    there, and one video has nothing that stays the same.
    """
    rng = np.random.RandomState(seed)
    videos = []
    for frames in (5, 8, 9, 16, 17, 25):
        scene = rng.choice([0, 1, 2, 3, 4, 5, 255], (3, 4)).repeat(4, 0).repeat(4, 1)
        true = np.stack([scene] * frames)
        true[rng.rand(*true.shape) < 0.01] = 255
        if frames == 9:
            true = rng.randint(0, 6, true.shape)
        said = np.where((true == 0) | (true == 255), 0, true - 1)
        said = np.where(rng.rand(*true.shape) < 0.03, rng.randint(0, 6, true.shape), said)
        videos.append((said.astype(np.uint8), true.astype(np.uint8)))
    return videos


def numbers(*videos: tuple[Tensor, Tensor], classes: int = 6, **readings: bool) -> dict[str, float]:
    metric = VSPWMetrics(classes=classes, **readings)
    for video in videos:
        metric.update(*video)
    return {name: float(value) for name, value in metric.compute().items()}


def test_values_of_the_official_programs() -> None:
    want = json.loads((Path(__file__).parent.parent / "golden" / "vs" / "vspw.json").read_text())
    got = numbers(*(tuple(torch.from_numpy(labels) for labels in video) for video in made_up()))
    assert got == pytest.approx(want, abs=1e-12)


# By hand.


def still(*labels: int, frames: int) -> Tensor:
    """A video of a 1 x n image that does not change."""
    return torch.tensor(labels)[None, None].repeat(frames, 1, 1)


def test_classes_that_are_not_there_do_not_enter_the_mean() -> None:
    # Class 0 has 2 pixels, one of them found: 1/2. Class 1 is found, and no more: 1. Class 2 is only predicted.
    # What is said of void and others does not matter.
    got = numbers((still(0, 2, 1, 1, 0, frames=1), still(1, 1, 2, 255, 0, frames=1)))
    assert got["mIoU"] == 0.75
    assert got["pixel_accuracy"] == pytest.approx(2 / 3)
    assert got["class_accuracy"] == 0.75
    assert got["fwIoU"] == pytest.approx(2 / 3 * 1 / 2 + 1 / 3 * 1)


def test_pixels_of_all_videos_are_pooled() -> None:
    # Class 0: 1 of 1, then 0 of 3 with 3 more said to be class 1: 1 / 4; class 1: only predicted.
    got = numbers((still(0, frames=1), still(1, frames=1)), (still(1, frames=3), still(1, frames=3)))
    assert got["mIoU"] == 0.25


def test_a_constant_wrong_label_is_consistent() -> None:
    video = still(1, 1, frames=9), still(1, 1, frames=9)
    assert numbers(video)["mVC8"] == 1
    assert numbers(video)["mIoU"] == 0
    assert numbers(video, official_compat=False)["mVC8"] == 0


def test_one_of_four_pixels_flickers() -> None:
    said, true = still(0, 0, 0, 0, frames=9), still(1, 1, 1, 1, frames=9)
    said[3, 0, 0] = 1
    assert numbers((said, true))["mVC8"] == 0.75
    # In the last frame: it is not in the first clip, 0 to 7, and the official program leaves out the second.
    said, true = still(0, 0, 0, 0, frames=9), still(1, 1, 1, 1, frames=9)
    said[8, 0, 0] = 1
    assert numbers((said, true))["mVC8"] == 1
    assert numbers((said, true), official_compat=False)["mVC8"] == (1 + 0.75) / 2


def test_as_many_frames_as_a_clip_are_no_clip() -> None:
    video = still(0, frames=8), still(1, frames=8)
    assert math.isnan(numbers(video)["mVC8"])
    assert numbers(video, official_compat=False)["mVC8"] == 1
    assert math.isnan(numbers(video, official_compat=False)["mVC16"])


def test_a_clip_in_which_nothing_stays_is_left_out() -> None:
    true = still(1, 1, frames=10)
    true[0] = 2  # so in the first clip, 0 to 7, no pixel keeps its label; the second is perfect
    assert numbers((still(0, 0, frames=10), true))["mVC8"] == 1


def test_void_pixels_count_for_consistency() -> None:
    # A void pixel whose prediction flickers: 1 of 2 in the official program, which knows no void here.
    said, true = still(0, 0, frames=9), still(1, 255, frames=9)
    said[4, 0, 1] = 1
    assert numbers((said, true))["mVC8"] == 0.5
    assert numbers((said, true), official_compat=False)["mVC8"] == 1


def test_long_videos_weigh_more() -> None:
    # 2 clips of 1/2 and 8 clips of 1, not the mean of two videos.
    said = still(0, 0, frames=10)
    said[4, 0, 1] = 1
    got = numbers((said, still(1, 1, frames=10)), (still(0, frames=16), still(1, frames=16)))
    assert got["mVC8"] == (2 * 0.5 + 8 * 1) / 10


def test_bad_labels_are_rejected() -> None:
    frames, good = SemanticFrames(6), torch.zeros(2, 2, dtype=torch.int64)
    for pred, target, said in (
        (good + 255, good, "255 is predicted, but classes are 0 to 5"),
        (good, good + 7, "7 is not a label: 0 to 6 and 255 are"),
        (good, good[:1], r"one size \(H, W\), not \(2, 2\) and \(1, 2\)"),
    ):
        with pytest.raises(ValueError, match=said):
            frames.add(pred, target)
    frames.add(good, good)
    with pytest.raises(ValueError, match="one size"):
        frames.add(good[:1], good[:1])
