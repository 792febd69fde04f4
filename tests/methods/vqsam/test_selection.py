"""TFG and DFG by hand: thresholds, ties, absences, fewer than asked for, none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from methods.vqsam.selection import Picks, best_of, iou_with, pick_distractors, pick_targets

SEEN = torch.ones(4)


def pairs(picks: Picks) -> list[tuple[int, int]]:
    return list(zip(picks.frames.tolist(), picks.candidates.tolist(), strict=True))


# TFG.

IOUS = torch.tensor([[0.6, 0.2, 0.1], [0.3, 0.9, 0.8], [0.5, 0.4, 0.5], [0.1, 0.2, 0.7]])


def test_targets_are_the_best_of_the_frames_with_the_highest_iou():
    assert pairs(pick_targets(IOUS, SEEN, 0.5, 2)) == [(1, 1), (3, 2)]


def test_threshold_of_targets_is_strict_and_there_may_be_fewer():
    assert pairs(pick_targets(IOUS, SEEN, 0.5, 4)) == [(1, 1), (3, 2), (0, 0)]  # frame 2 has 0.5 exactly


def test_no_target_qualifies():
    assert pairs(pick_targets(IOUS, SEEN, 0.9, 2)) == []
    assert pairs(pick_targets(IOUS, SEEN, 0.5, 0)) == []


def test_absent_frames_give_no_target():
    assert pairs(pick_targets(IOUS, torch.tensor([1.0, 0.0, 1.0, 1.0]), 0.5, 2)) == [(3, 2), (0, 0)]
    assert pairs(pick_targets(IOUS, -SEEN, 0.5, 2)) == []


def test_ties_of_targets_go_to_the_earlier_frame_and_candidate():
    equal = torch.full((4, 3), 0.8)
    assert pairs(pick_targets(equal, SEEN, 0.5, 3)) == [(0, 0), (1, 0), (2, 0)]


# DFG. Masks are runs of pixels of a line of ten.


def line(*pixels: range) -> Tensor:
    mask = torch.zeros(1, 10, dtype=torch.bool)
    for part in pixels:
        mask[0, list(part)] = True
    return mask


BEST = line(range(4))
OTHER = line(range(6, 10))  # no overlap: divergence 1
NEAR = line(range(5))  # IoU 4/5: divergence 0.2
HALF = line(range(2))  # IoU 1/2: divergence 0.5 exactly
FAR = line(range(3, 7))  # IoU 1/7: divergence 6/7
EMPTY = line()


def distractors(frames: list[list[tuple[Tensor, float]]], score: Tensor | None = None, count: int = 1, **how: float):
    ious = torch.tensor([[iou for _, iou in frame] for frame in frames])
    masks = torch.stack([torch.stack([mask for mask, _ in frame]) for frame in frames])
    score = torch.ones(len(frames)) if score is None else score
    settings = {"divergence": 0.5, "threshold": 0.7} | how
    return pairs(pick_distractors(ious, score, masks, count=count, **settings))


def test_iou_with_the_chosen_mask():
    masks = torch.stack([BEST, NEAR, OTHER, FAR])[None]
    torch.testing.assert_close(iou_with(masks, torch.tensor([0])), torch.tensor([[1.0, 0.8, 0.0, 1 / 7]]))
    assert iou_with(EMPTY[None, None], torch.tensor([0])).tolist() == [[1.0]]


def test_distractors_are_ranked_by_divergence_times_iou_over_the_clip():
    first = [(BEST, 0.95), (FAR, 0.9), (NEAR, 0.92)]  # 6/7 x 0.9 = 0.771
    second = [(OTHER, 0.8), (BEST, 0.99), (EMPTY, 0.1)]  # 1 x 0.8 = 0.8
    assert distractors([first, second]) == [(1, 0)]
    assert distractors([first, second], count=3) == [(1, 0), (0, 1)]


def test_thresholds_of_distractors_are_strict():
    assert distractors([[(BEST, 0.95), (HALF, 0.9), (OTHER, 0.7)]], threshold=0.7 + 1e-7) == []
    assert distractors([[(BEST, 0.95), (HALF, 0.9), (OTHER, 0.71)]]) == [(0, 2)]
    assert distractors([[(BEST, 0.95), (HALF, 0.9), (OTHER, 0.1)]], divergence=0.49) == [(0, 1)]


def test_no_distractor():
    assert distractors([[(BEST, 0.95), (NEAR, 0.9), (NEAR, 0.9)]] * 3, count=2) == []
    assert distractors([[(BEST, 0.95), (OTHER, 0.9), (OTHER, 0.9)]], count=0) == []


def test_an_empty_mask_is_no_distractor():
    """It would be as unlike the best one as can be."""
    assert distractors([[(BEST, 0.95), (EMPTY, 0.9), (EMPTY, 0.9)]]) == []


def test_the_best_itself_is_no_distractor_even_with_a_negative_threshold():
    assert distractors([[(BEST, 0.95), (BEST, 0.9), (OTHER, 0.1)]], divergence=-1.0, count=3) == [(0, 1)]


def test_absent_frames_give_no_distractor():
    frame = [(BEST, 0.95), (OTHER, 0.9), (EMPTY, 0.1)]
    assert distractors([frame, frame], torch.tensor([0.0, 2.0]), count=2) == [(1, 1)]
    assert distractors([frame, frame], torch.tensor([-1.0, 0.0]), count=2) == []


def test_ties_of_distractors_go_to_the_earlier_frame_and_candidate():
    frame = [(OTHER, 0.8), (BEST, 0.9), (OTHER, 0.8)]
    assert distractors([frame, frame], count=3) == [(0, 0), (0, 2), (1, 0)]


def test_of_two_equally_good_candidates_the_first_is_the_best():
    assert distractors([[(BEST, 0.9), (OTHER, 0.9), (EMPTY, 0.1)]]) == [(0, 1)]


def test_targets_of_the_distractors_frames():
    ious = torch.tensor([[0.1, 0.9, 0.8], [0.9, 0.9, 0.1]])
    assert pairs(best_of(ious, Picks(torch.tensor([1, 0]), torch.tensor([2, 2])))) == [(1, 0), (0, 1)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_nothing_is_differentiated_through_the_choice(dtype):
    ious = IOUS.to(dtype).requires_grad_()
    picks = pick_targets(ious, SEEN, 0.5, 2)
    assert not picks.frames.requires_grad
    assert pairs(picks) == [(1, 1), (3, 2)]
