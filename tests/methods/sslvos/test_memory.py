"""The token bank: what it keeps, what it forgets, what it consolidates, and that it stays within its budget."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from common.errors import InputError
from common.nn.affinity import similarity
from methods.sslvos.cutie.core import FrameFeatures
from methods.sslvos.memory import TokenBank
from methods.sslvos.settings import LongTermSettings, MemorySettings

P, C = 4, 3  # tokens of a frame, channels of a key
LONG = LongTermSettings(keep=2, prototypes=5, tokens=16, spare=4)


def frame(seed: int, batch: int = 1) -> tuple[FrameFeatures, Tensor]:
    """Features and values (batch, P, 2, 1) that tell which frame they are of."""
    g = torch.Generator().manual_seed(seed)
    key = torch.randn(batch, P, C, generator=g)
    shrinkage, selection = 1 + torch.rand(batch, P, 1, generator=g), torch.rand(batch, P, C, generator=g)
    nothing = torch.empty(0)
    features = FrameFeatures(nothing, nothing, nothing, nothing, key, shrinkage, selection)
    return features, torch.full((batch, P, 2, 1), float(seed))


def held(bank: TokenBank, name: str = "value") -> Tensor:
    return bank.buffers[name][:, bank.start : bank.end]


def frames_held(bank: TokenBank) -> list[int]:
    return sorted({int(x) for x in held(bank).flatten()})


def test_first_frame_stays_and_the_oldest_goes():
    bank = TokenBank(MemorySettings(frames=3), *frame(0))
    seen = [frames_held(bank)]
    for index in range(1, 6):
        bank.add(*frame(index))
        seen.append(frames_held(bank))
    assert seen == [[0], [0, 1], [0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 5]]
    assert len(bank) == bank.capacity == 3 * P


def test_one_frame_is_the_first():
    bank = TokenBank(MemorySettings(frames=1), *frame(0))
    bank.add(*frame(1))
    assert frames_held(bank) == [0]


def test_read_is_the_dense_reference():
    """After the ring has gone round: softmax over the k best of all that is held."""
    bank = TokenBank(MemorySettings(frames=3, top_k=2), *frame(0, batch=2))
    for index in range(1, 5):
        bank.add(*frame(index, batch=2))
    query, _ = frame(9, batch=2)
    scores = similarity(held(bank, "key"), held(bank, "shrinkage"), query.key, query.selection)
    kept = scores >= scores.topk(2).values[..., -1:]
    share = scores.masked_fill(~kept, float("-inf")).softmax(-1)
    torch.testing.assert_close(bank.read(query), torch.einsum("bmn,bnoc->bmoc", share, held(bank)))


def test_dropping_a_target_keeps_the_other():
    features, value = frame(0)
    value[:, :, 1] = 7
    bank = TokenBank(MemorySettings(), features, value)
    bank.keep_targets([1])
    assert bank.read(features).shape == (1, P, 1, 1)
    torch.testing.assert_close(bank.read(features), torch.full((1, P, 1, 1), 7.0))


def test_consolidation_by_hand():
    """4 frames fill the bank; the two old ones become prototypes: the tokens most read, averaged by similarity."""
    bank = TokenBank(MemorySettings(frames=4, top_k=1, long_term=LONG), *frame(0))
    made = [frame(index) for index in (1, 2, 3)]
    bank.add(*made[0])
    bank.add(*made[1])
    old = torch.arange(bank.working_offset, bank.working_offset + 2 * P)
    bank.buffers["use_count"][0, old] = torch.tensor([0.0, 5, 1, 4, 3, 0, 2, 0])
    bank.buffers["life_count"][0, old] = torch.tensor(
        [1.0, 1, 1, 2, 1, 1, 1, 1]
    )  # the fourth was read 4 times in two frames
    key = torch.cat([features.key for features, _ in made[:2]], 1)
    shrinkage = torch.cat([features.shrinkage for features, _ in made[:2]], 1)
    selection = torch.cat([features.selection for features, _ in made[:2]], 1)
    value = torch.cat([v for _, v in made[:2]], 1)
    bank.add(*made[2])
    best = [1, 4, 3, 6, 2]  # usage 5, 3, 2, 2, 1
    assert bank.long_term_tokens == 5
    assert frames_held_in_work(bank) == [3]
    got = {tuple(row.tolist()) for row in held(bank, "key")[0, :5]}
    assert got == {tuple(row.tolist()) for row in key[0, best]}
    share = similarity(key, shrinkage, key[:, best], selection[:, best]).softmax(-1)
    expected = torch.cat([share @ shrinkage, share @ value[:, :, 0]], -1)[0]
    order = [best.index(int((key[0] == row).all(1).nonzero())) for row in held(bank, "key")[0, :5]]
    torch.testing.assert_close(torch.cat([held(bank, "shrinkage"), held(bank)[:, :, 0]], -1)[0, :5], expected[order])
    assert not held(bank, "use_count")[0, :5].any()


def frames_held_in_work(bank: TokenBank) -> list[int]:
    return sorted({int(x) for x in bank.buffers["value"][:, bank.working_offset : bank.end].flatten()})


@pytest.mark.parametrize("batch", [1, 2])
def test_consolidation_never_exceeds_the_budget(batch):
    settings = MemorySettings(frames=4, top_k=3, long_term=LONG)
    bank = TokenBank(settings, *frame(0, batch))
    size, longest = bank.buffers["value"].numel(), 0
    for index in range(1, 120):
        bank.add(*frame(index, batch))
        read = bank.read(frame(1000 + index, batch)[0])
        assert read.isfinite().all()
        assert bank.long_term_tokens <= LONG.tokens
        assert len(bank) <= LONG.tokens + 4 * P == bank.capacity
        assert frames_held_in_work(bank)[-1] == index
        longest = max(longest, bank.long_term_tokens)
    assert bank.buffers["value"].numel() == size
    assert longest > LONG.tokens - LONG.prototypes - LONG.spare  # it did fill up and make room
    torch.testing.assert_close(
        held(bank)[:, bank.long_term_tokens : bank.long_term_tokens + P], torch.zeros(batch, P, 2, 1)
    )


def test_more_prototypes_than_tokens():
    long = LongTermSettings(keep=2, prototypes=50, tokens=100, spare=10)
    bank = TokenBank(MemorySettings(frames=3, long_term=long), *frame(0))
    for index in range(1, 40):
        bank.add(*frame(index))
        assert bank.long_term_tokens <= 100


def test_room_is_made_of_the_least_used():
    bank = TokenBank(MemorySettings(frames=4, top_k=3, long_term=LONG), *frame(0))
    for index in range(1, 7):
        bank.add(*frame(index))
    assert bank.long_term_tokens == 10
    bank.start -= 2  # 12 tokens: the next prototypes might not fit, 16 - 5 - 4 = 7 stay
    span = slice(bank.start, bank.first_offset)
    bank.buffers["life_count"][:, span] = 1
    bank.buffers["use_count"][:, span] = torch.tensor([0.0, 9, 1, 8, 2, 7, 3, 6, 4, 5, 0, 0])
    bank._make_room(LONG)
    assert bank.buffers["use_count"][0, bank.start : bank.first_offset].tolist() == [9, 8, 7, 6, 5, 4, 3]


def test_settings_that_cannot_be():
    with pytest.raises(InputError, match="at least 1"):
        MemorySettings(every=0)
    with pytest.raises(InputError, match="keeps 5 of 5 frames"):
        MemorySettings(long_term=LongTermSettings())
    with pytest.raises(InputError, match="no room"):
        MemorySettings(frames=10, long_term=LongTermSettings(tokens=2000))
