"""UniVS's memory pool, by hand."""

from __future__ import annotations

import math

import torch

from methods.univs.inference.memory_pool import MemoryPool, consistency
from methods.univs.inference.window import pool_prompts
from methods.univs.network.prompts import VisualTokens
from tests.support.fake_univs import PaintedUniVSNetwork

R, C = 2, 4


def tokens(value: float) -> VisualTokens:
    return VisualTokens(torch.full((R, C), value), torch.full((R, C), 100 + value))


def values(pool: MemoryPool, memory: int) -> list[float]:
    """One number for each slot that ProCA reads."""
    return pool.read(memory).content[::R, 0].tolist()


def test_new_slots_inherit_tokens_and_replacing_covers_all_later_slots():
    pool = MemoryPool(range(3), tokens(1))
    pool.extend(3)
    pool.replace_tokens(1, tokens(2))
    pool.replace_tokens(3, tokens(4))
    pool.replace_tokens(2, tokens(0))  # blank: the target was not there
    pool.extend(5)
    assert values(pool, 9) == [1, 1, 2, 2, 4, 4, 4]
    assert pool.read(9).position[::R, 0].tolist() == [101, 101, 102, 102, 104, 104, 104]


def test_length_is_m_plus_one_times_r_after_m_frames_and_bounded():
    pool = MemoryPool([0], tokens(1))
    lengths = []
    for frame in range(12):
        pool.extend(frame)
        pool.replace_tokens(frame, tokens(frame + 1))
        pool.update({frame: torch.ones(2, 2)}, {frame: torch.ones(C)})
        lengths.append(len(pool.read(3).content))
        pool.trim(3, oldest=frame - 1)
    assert lengths == [R * n for n in (2, 3, 4, *[4] * 9)]
    assert values(pool, 3) == [1, 10, 11, 12], "the first appearance stays"
    assert len(pool.tokens) == len(pool.embeddings(99)) == 3
    assert [pool.mask_logits(frame) is None for frame in (9, 10, 11)] == [True, False, False]


def test_pending_frames_keep_their_slots_beyond_the_memory():
    pool = MemoryPool(range(5), tokens(1))
    pool.trim(2, oldest=1)
    assert sorted(pool.tokens) == [1, 2, 3, 4]


def test_masks_of_overlapping_clips_are_summed_and_embeddings_averaged():
    pool = MemoryPool(range(2), tokens(1))
    pool.update({0: torch.tensor([[4.0, -1.0]]), 1: torch.tensor([[1.0, 1.0]])}, {1: torch.tensor([2.0, 0.0])})
    pool.update({1: torch.tensor([[-3.0, 2.0]])}, {1: torch.tensor([4.0, 2.0])})
    pool.update({1: torch.tensor([[-1.0, -2.0]])}, {1: torch.tensor([0.0, 1.0])})
    # frame 1: 1 - 3 - 1 and 1 + 2 - 2; ((2 + 4) / 2 + 0) / 2 and ((0 + 2) / 2 + 1) / 2
    torch.testing.assert_close(pool.mask_logits(0), torch.tensor([[4.0, -1.0]]))
    torch.testing.assert_close(pool.mask_logits(1), torch.tensor([[-3.0, 1.0]]))
    assert pool.mask_logits(2) is None
    torch.testing.assert_close(pool.embeddings(3), torch.tensor([[1.5, 1.0]]))


def test_a_new_slot_starts_from_the_latest_embeddings():
    pool = MemoryPool(range(3), tokens(1))
    pool.update({}, {frame: torch.tensor([3.0 * frame]) for frame in range(3)})  # 0, 3, 6
    pool.extend(3)
    assert pool.embeddings(1).tolist() == [[6.0]]
    pool.extend(4, recent=3)
    assert pool.embeddings(1).tolist() == [[5.0]]  # (3 + 6 + 6) / 3
    pool.update({}, {4: torch.tensor([7.0])})
    assert pool.embeddings(1).tolist() == [[6.0]]


def test_prompts_of_pools():
    """Queries from each frame's slot; a shorter pool is repeated."""
    long, short = MemoryPool(range(4), tokens(1)), MemoryPool([2, 3], tokens(5))
    long.replace_tokens(3, tokens(2))
    prompts = pool_prompts(PaintedUniVSNetwork(torch.zeros(1, 1)), [long, short], [2, 3], memory=3)  # type: ignore[arg-type]
    assert prompts.query[0, :, :, 0].tolist() == [[1, 2], [5, 5]]
    assert prompts.content.shape == (1, 2, 1, 4 * R, C)
    assert prompts.content[0, :, 0, ::R, 0].tolist() == [[1, 1, 1, 2], [5, 5, 5, 5]]


def test_consistency_weighs_the_newest_most():
    past = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    now = torch.tensor([[[3.0, 0.0], [3.0, 0.0]], [[5.0, 0.0], [0.0, 1.0]]])
    old, new = math.exp(2.5), math.exp(5.0)  # exp(5 i / 2)
    expected = torch.tensor([old / (old + new), 0.5])
    torch.testing.assert_close(consistency(past, now), expected)
