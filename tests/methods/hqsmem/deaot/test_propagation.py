"""Attention inside a window around each token."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from methods.hqsmem.deaot.propagation import window_attend


@pytest.mark.parametrize("size", [(5, 7), (2, 9), (9, 2), (1, 1)])
@pytest.mark.parametrize("window", [3, 7])
def test_window_attention_is_the_unfolded_one(size, window):
    """Against keys and values copied for every window, padding masked; also where the window is larger than the map."""
    query, key, value, relative = (torch.randn(2, size[0] * size[1], c) for c in (4, 4, 6, window**2))
    unfold = nn.Unfold(window, padding=window // 2)

    def windows(x: Tensor) -> Tensor:  # (B, n, C, k k)
        return unfold(x.transpose(1, 2).unflatten(2, size)).unflatten(1, (x.shape[2], -1)).permute(0, 3, 1, 2)

    inside = windows(torch.ones(2, size[0] * size[1], 1))[:, :, 0] > 0
    logits = torch.einsum("bnc,bnck->bnk", query, windows(key)) * 0.5 + relative
    share = logits.masked_fill(~inside, -torch.inf).softmax(-1)
    expected = torch.einsum("bnk,bndk->bnd", share, windows(value))
    torch.testing.assert_close(window_attend(query, key, value, relative, size, 0.5), expected)


def test_window_attention_by_hand():
    """Three tokens in a row, window 3, no content: weights come from the relative logits alone.

    Token 0 has no left neighbour, and equal weights else; token 1 looks left only; token 2 itself and left, 3 to 1.
    """
    relative = torch.full((1, 3, 9), -50.0)
    middle = relative.view(3, 3, 3)[:, 1]  # of the middle row of the window: left, itself, right
    middle[0] = torch.tensor([99.0, 0, 0])
    middle[1] = torch.tensor([50.0, 0, 0])
    middle[2] = torch.tensor([0.0, math.log(3), 99.0])
    value = torch.tensor([[[1.0], [10.0], [100.0]]])
    out = window_attend(torch.zeros(1, 3, 1), torch.zeros(1, 3, 1), value, relative, (1, 3), 1.0)
    torch.testing.assert_close(out[0, :, 0], torch.tensor([5.5, 1.0, 77.5]))
