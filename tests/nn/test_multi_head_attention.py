"""Multi-head attention against torch's."""

from __future__ import annotations

import torch
from torch import nn

from common.nn.attention import KEY, QUERY, VALUE, MultiHeadAttention


def test_attention_is_that_of_torch():
    ours, theirs = MultiHeadAttention(16, 4), nn.MultiheadAttention(16, 4, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    query, key, value = torch.randn(2, 3, 16), torch.randn(2, 7, 16), torch.randn(2, 7, 16)
    mask = torch.rand(2, 3, 7) > 0.5
    mask[..., 0] = True
    expected = theirs(query, key, value, attn_mask=~mask.repeat_interleave(4, 0))[0]
    torch.testing.assert_close(ours(query, key, value, mask[:, None]), expected)
    torch.testing.assert_close(ours(query, key, value), theirs(query, key, value)[0])


def test_projections_can_be_shared():
    attention = MultiHeadAttention(8, 2)
    query, memory = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    key, value = attention.project(memory, KEY), attention.project(memory, VALUE)
    assert key.shape == (2, 2, 5, 4)
    torch.testing.assert_close(
        attention.read(attention.project(query, QUERY), key, value), attention(query, memory, memory)
    )
