"""The preset ``topology``: how many parts and holes a target's mask has, over time."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from common.synthetic import SyntheticClips
from common.synthetic.shapes import Outline
from common.synthetic.topology import Change
from common.video import Video

SIZE = (128, 128)
SPECK = 4  # pixels: tips that a cut leaves behind


def parts_and_holes(mask: torch.Tensor) -> tuple[int, int]:
    """Connected parts of a mask (8-connected), and regions that they enclose (4-connected), specks apart."""
    parts, _ = ndimage.label(mask.numpy(), np.ones((3, 3)))
    around, _ = ndimage.label(~np.pad(mask.numpy(), 1))
    areas = [np.bincount(labels.flat)[1:] for labels in (parts, around)]
    return int((areas[0] > SPECK).sum()), int((areas[1] > SPECK).sum()) - 1


def inside(kind: str, number: int) -> list[Video]:
    """The first videos of one target of that kind of change, in which all of it stays inside the frame."""
    found, clips = [], SyntheticClips("topology", size=SIZE, objects=1)
    for index in range(60):
        video = clips[index]
        scene = video.frames.scene
        if scene.actors[0].change.kind == kind and all(scene.layers(t, SIZE)[0].share >= 1 for t in range(32)):
            found.append(video)
        if len(found) == number:
            break
    return found


@pytest.mark.parametrize("kind", ["split", "hole", "break"])
def test_parts_and_holes_over_time(kind):
    """Whole at first; then two parts, one hole, or as many parts as there are pieces; whole again but for a break."""
    videos = inside(kind, 2)
    assert len(videos) == 2
    for video in videos:
        (actor,) = video.frames.scene.actors
        change, whole = actor.change, (1, int(actor.outline.category == "ring"))
        expected = {"split": (2, 0), "hole": (1, 1), "break": (len(change.shifts), 0)}[kind]
        counts = [parts_and_holes(video.truth[t][0]) for t in range(32)]
        begins, ends = change.start + change.ramp, change.start + change.ramp + change.lasts
        open_ = [count for t, count in enumerate(counts) if begins <= t <= ends]
        assert len(open_) >= 4
        assert open_ == [expected] * len(open_)
        before = [count for t, count in enumerate(counts) if t <= change.start]
        after = [count for t, count in enumerate(counts) if t >= ends + change.ramp]
        assert before + after == [whole] * len(before + after)
        assert before
        assert bool(after) == (kind != "break")


def test_every_kind_is_in_the_benchmark_and_said_in_words():
    clips = SyntheticClips("topology", length=8, frames=24, seed=10_000, held_out=True)
    words = " ".join(text for video in clips for (text,) in video.expressions.values())
    assert all(deed in words for deed in ("splits in two", "opens a hole", "breaks into pieces"))


def test_long_videos_change_again_and_again_but_break_once():
    for number in range(12):
        change = SyntheticClips("topology", frames=90, objects=1)[number].frames.scene.actors[0].change
        assert change.period == (math.inf if change.kind == "break" else 30)
        assert math.isinf(change.lasts) == (change.kind == "break")


def test_a_split_disc():
    """A unit disc whose halves have moved by 1/2 along x: (x, 0) came from x - 1/2, and |x| < 1/2 is open."""
    disc, x = Outline("blob"), torch.tensor([-1.5, -0.75, 0.25, 0.5, 1.0, 1.5, 1.75])
    change = Change("split", start=0, ramp=4, lasts=2, shifts=(0.5, 0.5))
    depth, u, v = change.inside(disc, x, torch.zeros(7), t=5)
    torch.testing.assert_close(depth, torch.tensor([0.0, 0.25, -0.25, 0.0, 0.5, 0.0, -0.25]))
    torch.testing.assert_close(u, torch.tensor([-1.0, -0.25, -0.25, 0.0, 0.5, 1.0, 1.25]))
    torch.testing.assert_close(v, torch.zeros(7), atol=1e-6, rtol=0)
    assert torch.equal(change.inside(disc, x, torch.zeros(7), t=10)[0], 1 - x.abs())  # whole again


def test_an_open_disc():
    """A hole of 0.4, half open (the ramp's middle): 0.2."""
    change = Change("hole", start=0, ramp=4, lasts=2, hole=0.4)
    depth, u, _ = change.inside(Outline("blob"), torch.tensor([0.0, 0.2, 0.5, 1.0]), torch.zeros(4), t=2)
    torch.testing.assert_close(depth, torch.tensor([-0.2, 0.0, 0.3, 0.0]))
    assert u.tolist() == pytest.approx([0.0, 0.2, 0.5, 1.0])


def test_a_query_image_shows_the_whole_target():
    clips = SyntheticClips("topology", size=SIZE, objects=1)
    for number in range(6):
        ring = clips[number].frames.scene.actors[0].outline.category == "ring"
        assert parts_and_holes(clips.query_image(number, 1)[1]) == (1, int(ring))
