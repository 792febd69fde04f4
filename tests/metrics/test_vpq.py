"""VPQ: by hand, and the values of the VIPSeg evaluation program."""

import json
import math
from pathlib import Path

import pytest

from common.metrics import VPQMetrics
from common.metrics.tubes import Segments
from common.metrics.vpq import PanopticWindows
from tests.support.panoptic_videos import THINGS, drawn, made_up, segments

Video = tuple[list[Segments], list[Segments]]


def numbers(*videos: Video, windows: tuple[int, ...] = (1, 2), compat: bool = True) -> dict[str, float]:
    metric = VPQMetrics(things=THINGS, windows=windows, official_compat=compat)
    for video in videos:
        metric.update(*video)
    return {name: float(value) for name, value in metric.compute().items()}


def one(pred: Segments, target: Segments, **settings: bool) -> dict[str, float]:
    """A video of one frame."""
    return numbers(([pred], [target]), windows=(1,), **settings)


def test_values_of_the_official_program() -> None:
    want = json.loads((Path(__file__).parent.parent / "golden" / "vs" / "vpq.json").read_text())
    videos = [tuple([segments(frame[side]) for frame in frames] for side in (0, 1)) for frames in made_up()]
    assert numbers(*videos, windows=(1, 2, 4, 6, 8)) == pytest.approx(want, abs=1e-12)


# By hand. Classes 0, 2 and 5 are things.


def test_a_swap_of_identities_halfway() -> None:
    # In the window of both frames a tube has 4 pixels, of which 2 are common: IoU 2 / (4 + 4 - 2) = 1/3, no match.
    right, swapped = drawn(["aabb"], a=0, b=0), drawn(["bbaa"], a=0, b=0)
    got = numbers(([right, swapped], [right, right]))
    assert (got["VPQ1"], got["VPQ2"], got["VPQ"]) == (1, 0, 0.5)
    assert got["VPQ_thing"] == 0.5
    assert math.isnan(got["VPQ_stuff"])


def test_sums_are_over_all_windows_of_all_videos() -> None:
    # Windows of 2 in 3 frames of 4 pixels: frames 0, 1: IoU 1; frames 1, 2: (4 + 3) / 8. Another video: 1 window, lost.
    whole, most = drawn(["aaaa"], a=1), drawn(["aaa."], a=1)
    lost = drawn(["...."])
    got = numbers(([whole, whole, most], [whole] * 3), ([lost] * 2, [whole] * 2))
    assert got["VPQ2"] == pytest.approx((1 + 7 / 8) / (2 + 1 / 2))
    assert got["VPQ1"] == pytest.approx((1 + 1 + 3 / 4) / (3 + 2 / 2))
    assert got["SQ"] == pytest.approx(((1 + 7 / 8) / 2 + 2.75 / 3) / 2)
    assert got["RQ"] == pytest.approx((2 / 2.5 + 3 / 4) / 2)


def test_half_is_no_match() -> None:
    true = drawn(["aabb"], a=1, b=0)
    assert one(drawn(["a.bb"], a=1, b=0), true)["VPQ_stuff"] == 0  # IoU 1/2; predicted void is not taken out
    assert one(drawn(["aabb"], a=3, b=0), true)["VPQ1"] == pytest.approx(1 / 3)  # classes 0, 1 and 3: 1, 0 and 0


def test_void_is_taken_out_of_the_prediction_only() -> None:
    true = drawn(["aa......"], a=1)
    assert one(drawn(["aaaaaa.."], a=1), true)["VPQ1"] == 1  # 2 / (6 + 2 - 2 - 4)
    assert one(drawn(["aaa."], a=1), drawn(["aaaa"], a=1))["VPQ1"] == 0.75


def test_what_lies_on_void_is_no_mistake() -> None:
    # Class 1 is right; a false segment b of class 3 counts, and makes a second class of PQ 0, if half of it is on void.
    assert one(drawn(["aabb"], a=1, b=3), drawn(["aaa."], a=1))["VPQ1"] == pytest.approx((2 / 3 + 0) / 2)
    assert one(drawn(["aaaabbb"], a=1, b=3), drawn(["aaaaa.."], a=1))["VPQ1"] == pytest.approx(4 / 5)


def test_crowds() -> None:
    # The crowd c of class 0 is not missed, and what is said of class 0 on it is not wrong; of class 5 it is.
    true = drawn(["aacccc"], crowd="c", a=1, c=0)
    assert one(drawn(["aa...."], a=1), true)["VPQ1"] == 1
    assert one(drawn(["aabbb."], a=1, b=0), true)["VPQ1"] == 1
    assert one(drawn(["aabbb."], a=1, b=5), true)["VPQ1"] == 0.5


def test_of_two_crowds_the_program_knows_the_last() -> None:
    # Segment b lies on the crowds c and d, half on each: 1/2 of it is on d alone.
    pred, true = drawn(["aabb"], a=1, b=0), drawn(["aacd"], crowd="cd", a=1, c=0, d=0)
    assert one(pred, true)["VPQ1"] == 0.5
    assert one(pred, true, compat=False)["VPQ1"] == 1


def test_the_class_in_the_first_frame_holds() -> None:
    true = [drawn(["aa"], a=1)] * 2
    changing = [drawn(["aa"], a=1), drawn(["aa"], a=3)]
    assert numbers((changing, true))["VPQ2"] == 1
    assert numbers((changing[::-1], true))["VPQ2"] == 0


def test_a_video_shorter_than_the_window() -> None:
    frame = drawn(["a"], a=1)
    got = numbers(([frame], [frame]))
    assert got["VPQ1"] == 1
    assert math.isnan(got["VPQ2"])
    assert math.isnan(got["VPQ"])


def test_memory_is_bounded() -> None:
    windows, frame = PanopticWindows((1, 2)), drawn(["ab"], a=1, b=0)
    for _ in range(9):
        windows.add(frame, frame)
    assert len(windows.frames) == 2
    assert windows.result()["tp"].tolist() == [9, 9, 8, 8]


def test_segments_are_checked() -> None:
    windows, good = PanopticWindows(), drawn(["ab"], a=1, b=0)
    with pytest.raises(ValueError, match="segment 98 is in the map, but has no category"):
        windows.add(drawn(["ab"], a=1), good)
    with pytest.raises(ValueError, match=r"one size, not \(1, 3\) and \(1, 2\)"):
        windows.add(drawn(["abb"], a=1, b=0), good)
    with pytest.raises(ValueError, match="0 is no segment"):
        Segments(good.ids, {0: 1})
