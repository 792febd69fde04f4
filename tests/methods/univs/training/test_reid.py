"""UniVS's ReID losses, by hand."""

from __future__ import annotations

import math

import torch

from methods.univs.training.reid import contrastive_loss, cross_clip_losses, reid_losses


def test_contrastive():
    similar, positives = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.5]])
    loss = contrastive_loss(similar, positives, torch.tensor([[False, True]]))
    torch.testing.assert_close(loss, torch.tensor(math.log(1 + math.exp(-1) + math.exp(-0.5))))
    far = contrastive_loss(torch.tensor([[30.0]]), torch.tensor([[0.0]]), torch.tensor([[True]]))
    torch.testing.assert_close(far, torch.tensor(math.log(1 + math.exp(10))))  # no difference counts above 10


def test_pair_losses():
    # C = 4: s = e e / 2. Target 0 twice, at right angles, target 1 once; similarity 2 on the diagonal, else 0.
    rows, ids = 2 * torch.eye(4)[:3], torch.tensor([0, 0, 1])
    # first and mean positive: 2 and 1; 0 and 1; 2 and 2 (two negatives)
    each = [
        math.log(1 + math.exp(-2) + math.exp(-1)),
        math.log(1 + 1 + math.exp(-1)),
        math.log(1 + 4 * math.exp(-2)),
    ]
    loss, aux = reid_losses(rows, rows, ids, ids)
    torch.testing.assert_close(loss, torch.tensor(sum(each) / 3))
    torch.testing.assert_close(aux, torch.tensor(1 / 3))  # two pairs of cosine 0 that should be 1, a half each


def test_background_is_a_negative_and_anchors_without_their_like_are_left_out():
    rows = 2 * torch.eye(4)[:2]
    loss, _ = reid_losses(rows, rows, torch.tensor([0, 5]), torch.tensor([0, -1]))
    torch.testing.assert_close(loss, torch.tensor(math.log(1 + 2 * math.exp(-2))))
    some = torch.randn(2, 4, requires_grad=True)
    loss, aux = reid_losses(some, some, torch.tensor([0, 1]), torch.tensor([2, -1]))
    assert loss.item() == aux.item() == 0
    (loss + aux).backward()  # an optimiser step of all processes needs it


def test_losses_between_clips():
    pool = 2 * torch.eye(4)[:2].repeat_interleave(3, 0)
    loss, aux = cross_clip_losses(pool, torch.tensor([0, 0, 0, 1, 1, 1]))
    # three negatives and three positives (the two others, one twice)
    torch.testing.assert_close(loss, torch.tensor(math.log(1 + 9 * math.exp(-2))))
    torch.testing.assert_close(aux, torch.tensor(0.0))
    assert cross_clip_losses(pool, torch.arange(6))[0] == 0
