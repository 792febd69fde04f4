"""Where simulated clicks lie, and what a clip of clicked targets is."""

from __future__ import annotations

import pytest
import torch
from scipy import ndimage

from common.inference.clicks import error_click, track_clicked
from common.inference.session import Session
from common.synthetic import SyntheticClips
from common.video import FrameMasks, Prompt

CPU = torch.device("cpu")


def place(click: Prompt | None) -> tuple[float, float, int]:
    assert click is not None
    return (*click.points[0].tolist(), int(click.labels[0]))


def test_the_click_is_the_innermost_pixel_of_the_deeper_error() -> None:
    """A missed square of 5, deepest 3 pixels from outside at its centre; a wrong bar of 3 x 9, 2 pixels deep."""
    truth, mask = torch.zeros(2, 20, 30, dtype=torch.bool)
    truth[4:9, 10:15] = True
    mask[12:15, 2:11] = True
    assert place(error_click(7, mask, truth)) == (12, 6, 1)
    truth[4:9, 10:13] = False  # what is missed is two columns wide now
    assert place(error_click(7, mask, truth)) == (3, 13, 0)
    assert error_click(7, mask, truth).target == 7
    assert error_click(7, truth, truth) is None


def test_the_edge_of_the_frame_counts_as_an_edge() -> None:
    truth = torch.ones(9, 9, dtype=torch.bool)
    assert place(error_click(1, ~truth, truth)) == (4, 4, 1)


def test_equally_deep_errors_are_the_missed_one() -> None:
    truth, mask = torch.zeros(2, 9, 9, dtype=torch.bool)
    truth[6, 6], mask[1, 1] = True, True
    assert place(error_click(1, mask, truth)) == (6, 6, 1)


@pytest.mark.parametrize("seed", range(5))
def test_depths_are_euclidean_distances(seed: int) -> None:
    clip = SyntheticClips("topology", 1, frames=1, size=(60, 80), seed=seed, objects=1)[0]
    truth = clip.truth[0][0].bool()
    mask = truth.roll((4, -6), (0, 1))
    x, y, positive = place(error_click(1, mask, truth))
    missed, wrong = (
        torch.from_numpy(ndimage.distance_transform_edt(torch.nn.functional.pad(region, (1, 1, 1, 1)).numpy()))
        for region in (truth & ~mask, mask & ~truth)
    )
    chosen = missed if positive else wrong
    assert chosen.max() == max(missed.max(), wrong.max())
    assert chosen[int(y) + 1, int(x) + 1] == pytest.approx(chosen.max())


class Painter(Session):
    """Answers a target by the squares of 3 x 3 around its positive clicks, without those around the negative ones."""

    kinds = correction_kinds = ("points",)

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.frame, self.size, self.given = -1, None, {}

    def step(self, frame, prompts=()):
        _, self.size = self.check(frame, prompts)
        self.frame += 1
        return [self._paint(prompts)]

    def correct(self, prompts):
        self.check_correction(prompts, self.given)
        return self._paint(prompts)

    def _paint(self, prompts):
        for prompt in prompts:
            (x, y), mask = prompt.points[0].int().tolist(), self.given.setdefault(prompt.target, torch.zeros(self.size))
            mask[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = prompt.labels[0]
        targets = tuple(sorted(self.given))
        masks = torch.stack([self.given[t] for t in targets]) if targets else torch.zeros(0, *self.size)
        return FrameMasks(self.frame, targets, masks.bool(), torch.ones(len(targets)))

    def finish(self):
        return []

    def drop(self, target):
        del self.given[target]


def test_every_correction_brings_the_first_frame_nearer_to_the_truth() -> None:
    clip = SyntheticClips("easy", 1, frames=3, size=(48, 64), seed=5, objects=2)[0]
    errors = []
    for corrections in (0, 1, 3, 400):
        answers = list(track_clicked(Painter(), clip, corrections, CPU))
        assert [answer.frame for answer in answers] == [0, 1, 2]
        assert torch.equal(answers[0].masks, answers[2].masks)
        errors.append(int((answers[0].masks ^ clip.truth[0].bool()).sum()))
    assert errors[0] > errors[1] > errors[2] > errors[3]
