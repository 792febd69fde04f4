"""STQ: by hand, and the values of the VIPSeg evaluation program."""

import json
import math
from pathlib import Path

import pytest

from common.metrics import STQMetrics
from common.metrics.tubes import Segments
from tests.support.panoptic_videos import THINGS, drawn, made_up, segments


def numbers(*videos: tuple[list[Segments], list[Segments]], compat: bool = True) -> dict[str, float]:
    metric = STQMetrics(things=THINGS, official_compat=compat)
    for video in videos:
        metric.update(*video)
    return {name: float(value) for name, value in metric.compute().items()}


def one(pred: Segments, target: Segments, compat: bool = True) -> dict[str, float]:
    """A video of one frame."""
    return numbers(([pred], [target]), compat=compat)


def test_values_of_the_official_program() -> None:
    want = json.loads((Path(__file__).parent.parent / "golden" / "vs" / "stq.json").read_text())
    videos = [tuple([segments(frame[side]) for frame in frames] for side in (0, 1)) for frames in made_up()]
    assert numbers(*videos) == pytest.approx(want, abs=1e-12)


# By hand: 4 x 4 pixels, 8 of stuff s (class 1) and 8 of a thing t (class 0).
TOY = drawn(["ssss", "ssss", "tttt", "tttt"], s=1, t=0)


def test_a_perfect_answer() -> None:
    assert one(TOY, TOY) == {"STQ": 1, "AQ": 1, "SQ": 1}


def test_predicted_void_is_one_more_class() -> None:
    # One pixel of stuff is predicted void: IoU of stuff 7/8, of the thing 1, and of void 0.
    pred = drawn(["sss.", "ssss", "tttt", "tttt"], s=1, t=0)
    assert one(pred, TOY)["SQ"] == pytest.approx((7 / 8 + 1 + 0) / 3) == 0.625
    assert one(pred, TOY, compat=False)["SQ"] == pytest.approx((7 / 8 + 1) / 2)


def test_void_costs_association_only() -> None:
    # The track takes 4 pixels of void: TPA 8, |g| 8, |p| 12.
    true = drawn(["ssss", "....", "tttt", "tttt"], s=1, t=0)
    pred = drawn(["ssss", "tttt", "tttt", "tttt"], s=1, t=0)
    got = one(pred, true)
    assert (got["AQ"], got["SQ"]) == (8 / 12, 1)
    assert got["STQ"] == pytest.approx(math.sqrt(8 / 12))


def test_the_first_segment_is_a_crowd_to_the_program() -> None:
    true = drawn(["ssss", "tttt"], t=0, s=1)
    assert one(true, true) == {"STQ": 0, "AQ": 0, "SQ": 1}
    assert one(true, true, compat=False) == {"STQ": 1, "AQ": 1, "SQ": 1}
    # It is the first of the video, not of the frame.
    late = [drawn(["ssss", "uuuu"], s=1, u=0), true]
    assert numbers((late, late))["AQ"] == 1


def test_crowds_are_left_out_on_both_sides() -> None:
    # The crowd c; the predicted track t covers it and the true one: without the crowd it has 4 pixels, all of them t's.
    true, pred = drawn(["sscc", "tttt"], crowd="c", s=1, c=0, t=0), drawn(["sstt", "tttt"], s=1, t=0)
    assert one(pred, true, compat=False)["AQ"] == 1
    # The program does not look at the flag: c is a tube of 2 pixels, overlapped by 2 of 6, t one of 4 by 4 of 6.
    assert one(pred, true)["AQ"] == pytest.approx((2 / 6 + 4 / 6) / 2)


def test_association_by_hand() -> None:
    # Two frames. The true track t of 8 pixels is first u, then v: 4^2 / 8 / 8 each; v also takes 4 pixels of stuff.
    true = [drawn(["ssss", "tttt"], s=1, t=0)] * 2
    pred = [drawn(["ssss", "uuuu"], s=1, u=0), drawn(["vvvv", "vvvv"], v=2)]
    # |u| = 4, |v| = 8: 4 * 4 / (8 + 4 - 4) + 4 * 4 / (8 + 8 - 4) over |t| = 8. The class of v does not matter.
    assert numbers((pred, true))["AQ"] == pytest.approx((16 / 8 + 16 / 12) / 8)
    # SQ: stuff 4 of 8, thing 4 of 8, class 2 only predicted, 0 of 8.
    assert numbers((pred, true))["SQ"] == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)


def test_a_track_that_changes_class_is_two() -> None:
    true = [drawn(["ssss", "tttt"], s=1, t=0)] * 2
    pred = [true[0], drawn(["ssss", "tttt"], s=1, t=2)]
    assert numbers((pred, true))["AQ"] == pytest.approx(2 * (4 * 4 / 8) / 8)


def test_pooled_over_videos() -> None:
    # Tubes: one perfect, one lost, in videos of different length. SQ: stuff 8 + 4 of 12 + 4 more that are said to be.
    # Thing: 8 of 8 + 4. So AQ is 1/2 and STQ not the mean of 1 and 0.
    lost = drawn(["ssss", "ssss"], s=1), drawn(["ssss", "tttt"], s=1, t=0)
    got = numbers(([TOY], [TOY]), ([lost[0]], [lost[1]]))
    assert got["AQ"] == 0.5
    assert got["SQ"] == pytest.approx((12 / 16 + 8 / 12) / 2)
    assert got["STQ"] == pytest.approx(math.sqrt(got["AQ"] * got["SQ"]))


def test_no_things_at_all() -> None:
    stuff = drawn(["ssss"], s=1)
    assert one(stuff, stuff) == {"STQ": 0, "AQ": 0, "SQ": 1}
