"""UniVS's memory pool and the measures of masks, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from methods.univs.inference.acceptance import accept_first, accept_known, recognise
from methods.univs.inference.mask_ops import box_iou, coarse_to_frame, compete, frame_iou, mask_iou, quality, to_frame
from methods.univs.inference.memory_pool import Pool, consistency
from methods.univs.inference.settings import InferenceSettings
from methods.univs.inference.window import pool_prompts
from methods.univs.network.heads import Predictions
from methods.univs.network.prompts import VisualTokens
from tests.support.fake_univs import PaintedUniVs

R, C = 2, 4


def tokens(value: float) -> VisualTokens:
    return VisualTokens(torch.full((R, C), value), torch.full((R, C), 100 + value))


def values(pool: Pool, memory: int) -> list[float]:
    """One number for each slot that ProCA reads."""
    return pool.read(memory).content[::R, 0].tolist()


def test_slots_inherit_and_are_renewed_with_all_later_ones():
    pool = Pool(range(3), tokens(1))
    pool.reach(3)
    pool.renew(1, tokens(2))
    pool.renew(3, tokens(4))
    pool.renew(2, tokens(0))  # blank: the target was not there
    pool.reach(5)
    assert values(pool, 9) == [1, 1, 2, 2, 4, 4, 4]
    assert pool.read(9).position[::R, 0].tolist() == [101, 101, 102, 102, 104, 104, 104]


def test_length_is_m_plus_one_times_r_after_m_frames_and_bounded():
    pool = Pool([0], tokens(1))
    lengths = []
    for frame in range(12):
        pool.reach(frame)
        pool.renew(frame, tokens(frame + 1))
        pool.add({frame: torch.ones(2, 2)}, {frame: torch.ones(C)})
        lengths.append(len(pool.read(3).content))
        pool.trim(3, oldest=frame - 1)
    assert lengths == [R * n for n in (2, 3, 4, *[4] * 9)]
    assert values(pool, 3) == [1, 10, 11, 12], "the first appearance stays"
    assert len(pool.tokens) == len(pool.embeddings(99)) == 3
    assert [pool.masks(frame) is None for frame in (9, 10, 11)] == [True, False, False]


def test_open_frames_keep_their_slots_beyond_the_memory():
    pool = Pool(range(5), tokens(1))
    pool.trim(2, oldest=1)
    assert sorted(pool.tokens) == [1, 2, 3, 4]


def test_masks_of_overlapping_clips_are_summed_and_embeddings_half_renewed():
    pool = Pool(range(2), tokens(1))
    pool.add({0: torch.tensor([[4.0, -1.0]]), 1: torch.tensor([[1.0, 1.0]])}, {1: torch.tensor([2.0, 0.0])})
    pool.add({1: torch.tensor([[-3.0, 2.0]])}, {1: torch.tensor([4.0, 2.0])})
    pool.add({1: torch.tensor([[-1.0, -2.0]])}, {1: torch.tensor([0.0, 1.0])})
    # frame 1: 1 - 3 - 1 and 1 + 2 - 2; ((2 + 4) / 2 + 0) / 2 and ((0 + 2) / 2 + 1) / 2
    torch.testing.assert_close(pool.masks(0), torch.tensor([[4.0, -1.0]]))
    torch.testing.assert_close(pool.masks(1), torch.tensor([[-3.0, 1.0]]))
    assert pool.masks(2) is None
    torch.testing.assert_close(pool.embeddings(3), torch.tensor([[1.5, 1.0]]))


def test_a_new_slot_starts_from_the_latest_embeddings():
    pool = Pool(range(3), tokens(1))
    pool.add({}, {frame: torch.tensor([3.0 * frame]) for frame in range(3)})  # 0, 3, 6
    pool.reach(3)
    assert pool.embeddings(1).tolist() == [[6.0]]
    pool.reach(4, recent=3)
    assert pool.embeddings(1).tolist() == [[5.0]]  # (3 + 6 + 6) / 3
    pool.add({}, {4: torch.tensor([7.0])})
    assert pool.embeddings(1).tolist() == [[6.0]]


def test_prompts_of_pools():
    """Queries from each frame's slot; a shorter pool is read in a circle."""
    long, short = Pool(range(4), tokens(1)), Pool([2, 3], tokens(5))
    long.renew(3, tokens(2))
    prompts = pool_prompts(PaintedUniVs(torch.zeros(1, 1)), [long, short], [2, 3], memory=3)  # type: ignore[arg-type]
    assert prompts.query[0, :, :, 0].tolist() == [[1, 2], [5, 5]]
    assert prompts.content.shape == (1, 2, 1, 4 * R, C)
    assert prompts.content[0, :, 0, ::R, 0].tolist() == [[1, 1, 1, 2], [5, 5, 5, 5]]


def test_consistency_weighs_the_newest_most():
    past = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    now = torch.tensor([[[3.0, 0.0], [3.0, 0.0]], [[5.0, 0.0], [0.0, 1.0]]])
    old, new = math.exp(2.5), math.exp(5.0)  # exp(5 i / 2)
    expected = torch.tensor([old / (old + new), 0.5])
    torch.testing.assert_close(consistency(past, now), expected)


def test_quality():
    logits = torch.tensor([[2.0, 1.5, 0.0, -0.5, -2.0], [0.5, 0.0, -3.0, -3.0, -3.0], [-2.0] * 5])
    # over 1: 2, 0, 0; over -1: 4, 2, 0
    assert quality(logits[:, None, None]).tolist() == [0.5, 0.0, 0.0]


def test_competition():
    logits = torch.tensor([[2.0, 2.0, -1.0, 3.0], [1.0, 4.0, -1.0, -2.0]])[:, None, None]
    # probabilities .881 .881 .269 .953 and .731 .982 .269 .119; with weights 1 and 0.9: the second wins pixel 1 alone
    # (.884 > .881); nobody claims pixel 2
    shared, share = compete(logits, torch.tensor([1.0, 0.9]))
    assert shared[:, 0, 0].tolist() == [[2.0, 0.0, -1.0, 3.0], [0.0, 4.0, -1.0, -2.0]]
    torch.testing.assert_close(share, torch.tensor([2 / 3, 1 / 2]))


def test_overlaps():
    a = torch.zeros(3, 2, 4, 4, dtype=torch.bool)
    a[0, 0, :2, :2] = a[1, 0, :2, 1:3] = a[1, 1, 0, 0] = a[0, 1, 3, 3] = True
    # masks: 2 common of 5 + 5; boxes: 2 / 6 on frame 0, 0 on frame 1
    assert mask_iou(a, a)[0, 1] == pytest.approx(2 / 8)
    assert mask_iou(a, a)[2].tolist() == [0.0, 0.0, 0.0]
    assert box_iou(a)[0, 1] == pytest.approx(2 / 6)
    assert box_iou(a)[2].tolist() == [0.0, 0.0, 0.0]
    assert mask_iou(a[:0], a).shape == (0, 3)
    # by frame: 2 of 6, 0 of 2
    assert frame_iou(a[0], a).tolist() == pytest.approx([1.0, 2 / 6, 0.0])


def test_masks_at_the_size_of_frames():
    small = torch.tensor([[[1.0, -1.0], [1.0, -1.0]]])
    large = to_frame(small, (7, 6))
    assert large.shape == (1, 7, 6)
    assert (large > 0)[0, 0].tolist() == [True] * 4 + [False] * 2
    assert to_frame(small, (8, 8), (4, 4)).shape == (1, 4, 4)
    assert coarse_to_frame(small[0] > 0, (3, 6)).tolist() == [[True] * 4 + [False] * 2] * 3


# Which masks count.


def found(*rows: list[float], embeddings: torch.Tensor | None = None) -> Predictions:
    """Masks of one row of pixels on one frame."""
    masks = torch.tensor(rows)[:, None, None]
    return Predictions(
        masks, torch.zeros(len(rows), 1), torch.ones(len(rows), 1, 2) if embeddings is None else embeddings
    )


def test_first_masks_must_look_like_the_given_ones():
    # at stride 4: what is found covers the first, and all, of two cells; given are 8 x 4 pixels of the first and 2
    left, right = torch.zeros(4, 8, dtype=torch.bool), torch.zeros(4, 8, dtype=torch.bool)
    left[:, :4] = True
    right[:, 7] = True
    settings = InferenceSettings(first_iou=0.2, first_area=8)
    some = found([9.0, -9.0], [9.0, 9.0], [9.0, -9.0])
    kept = accept_first(some, [(0, left), (0, right), None], (4, 8), settings).kept
    # IoU 1; 4 / 32 < 0.2 * 4 / 8 = 0.1 is wrong, so kept; a box has no mask to be compared with
    assert kept.tolist() == [True, True, True]
    kept = accept_first(
        some, [(0, left), (0, right), None], (4, 8), InferenceSettings(first_iou=0.3, first_area=4)
    ).kept
    assert kept.tolist() == [True, False, True]


def test_first_masks_compete_by_iou_squared():
    given = torch.ones(4, 8, dtype=torch.bool)
    left = given.clone()
    left[:, 4:] = False
    masks = accept_first(found([5.0, 5.0], [9.0, -9.0]), [(0, given), (0, left)], (4, 8), InferenceSettings()).masks
    assert masks[:, 0, 0].tolist() == [[0.0, 5.0], [9.0, -9.0]]  # both are all right: the larger probability


def test_known_masks_must_be_like_the_memory_and_keep_their_share():
    same, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    some = found([9.0] * 4, [5.0, 5.0, 5.0, -9.0], [9.0] * 4, embeddings=torch.stack([same, same, same]))
    settings = InferenceSettings()
    kept = accept_known(some, [same, same, other], 0.5, settings.kept)
    assert kept.kept.tolist() == [True, False, False], "the second loses all of its pixels, the third is another one"
    alone = accept_known(some, [same, same, other], 0.5, None)
    assert alone.kept.tolist() == [True, True, False]
    assert torch.equal(alone.masks, some.masks)
    # a class score, or what else is said, in the place of the second similarity
    turned = accept_known(some, [same, same, other], 0.5, 0.5, torch.tensor([0.1, 0.9, 0.9]))
    assert turned.kept.tolist() == [False, True, False]
    assert torch.equal(turned.masks, some.masks)


def test_recognised_is_the_most_similar_learnable_query():
    embeddings = torch.tensor([[[1.0, 0.0]], [[0.6, 0.8]], [[0.0, 3.0]]])
    learnable = found([1.0], [2.0], [3.0], embeddings=embeddings)
    got = recognise(learnable, [torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, 0.1]])])
    assert got.masks.flatten().tolist() == [3.0, 1.0]
