"""UniVS's attention blocks, by hand: separated self-attention (equation 4), ProCA (equation 3)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from common.nn.attention import MultiHeadAttention
from methods.univs.network.attention import PromptCrossAttention, SeparatedSelfAttention
from methods.univs.network.prompts import PromptTokens


def test_self_attention_by_hand():
    """One channel, unit projections: a query's answer is the softmax-weighted mean of what it may read."""
    layer = SeparatedSelfAttention(1, 1).eval()
    layer.norm = nn.Identity()
    with torch.no_grad():
        layer.attention.in_proj_weight.fill_(1.0)
        layer.attention.out_proj.weight.fill_(1.0)
        layer.attention.out_proj.bias.zero_()
    x = torch.tensor([[[[0.0], [1.0]], [[2.0], [-1.0]], [[0.5], [0.3]]]])  # one learnable and two prompt queries, T = 2
    code = torch.zeros_like(x)

    def answer(query: float, read: list[float]) -> float:
        weights = [math.exp(query * key) for key in read]
        return query + sum(w * v for w, v in zip(weights, read, strict=True)) / sum(weights)

    prompts = [2.0, -1.0, 0.5, 0.3]
    for mode, read in (("sep", prompts), ("sep-l2p", [0.0, 1.0, *prompts]), ("sep-blocked", [2.0, -1.0])):
        out = layer(x, code, 1, mode).flatten().tolist()
        assert out[0] == pytest.approx(0.5, abs=1e-6)  # 0 weighs both its copies alike: 0 + (0 + 1) / 2
        assert out[1] == pytest.approx(answer(1.0, [0.0, 1.0]), abs=1e-6)
        assert out[2] == pytest.approx(answer(2.0, read), abs=1e-6)
        assert out[3] == pytest.approx(answer(-1.0, read), abs=1e-6)
    everything = layer(x, code, 1, "all").flatten().tolist()
    assert everything[1] == pytest.approx(answer(1.0, [0.0, 1.0, *prompts]), abs=1e-6)


def test_attention_is_torchs():
    ours, theirs = MultiHeadAttention(8, 2), nn.MultiheadAttention(8, 2, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    query, memory = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    mask = torch.rand(2, 1, 3, 5) > 0.3
    mask[..., 0] = True
    expected = theirs(query, memory, memory, attn_mask=~mask[:, 0].repeat_interleave(2, 0))[0]
    torch.testing.assert_close(ours(query, memory, memory, mask), expected, atol=1e-6, rtol=1e-5)


def proca_by_hand(position: bool) -> float:
    """Query 1 with code 0.5; tokens 2 and -1 with codes 0 and 1; unit projections, one channel."""
    query, keys = (1.5, [1.5, 2.0, 0.0]) if position else (1.0, [1.0, 2.0, -1.0])
    weights = [math.exp(query * key) for key in keys]
    values = [1.0, 2.0, -1.0]
    return 1.0 + sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


@pytest.mark.parametrize("position", [True, False])
def test_proca_by_hand(position):
    layer = PromptCrossAttention(1, 1)
    layer.norm = nn.Identity()
    with torch.no_grad():
        layer.attention.in_proj_weight.fill_(1.0)
        layer.attention.out_proj.weight.fill_(1.0)
        layer.attention.out_proj.bias.zero_()
    tokens, codes = torch.tensor([2.0, -1.0]).view(1, 1, 1, 2, 1), torch.tensor([0.0, 1.0]).view(1, 1, 1, 2, 1)
    x, code = torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 0.5)
    prompts = PromptTokens("visual" if position else "category", x, code, tokens, codes if position else None)
    assert layer(x, code, prompts).item() == pytest.approx(proca_by_hand(position), abs=1e-6)


def test_proca_without_tokens_attends_to_the_query_itself():
    layer = PromptCrossAttention(8, 2)
    x = torch.randn(1, 2, 3, 8)
    prompts = PromptTokens("category", x, x, torch.zeros(1, 2, 1, 0, 8), None)
    attended = layer.attention.out_proj(layer.attention.project(x, 2).transpose(-2, -3).flatten(-2))
    torch.testing.assert_close(layer(x, x, prompts), layer.norm(x + attended))


def test_proca_mixes_neither_targets_nor_frames():
    layer = PromptCrossAttention(8, 2)
    x, tokens = torch.randn(1, 2, 3, 8), torch.randn(1, 2, 3, 4, 8)
    changed = tokens.clone()
    changed[0, 1, 2] += 1
    a, b = (layer(x, x, PromptTokens("visual", x, x, each, each)) for each in (tokens, changed))
    differs = (a != b).any(-1)[0]
    assert differs.tolist() == [[False] * 3, [False, False, True]]


def test_tokens_shared_by_all_frames_are_the_same_as_repeated_ones():
    layer = PromptCrossAttention(8, 2)
    x, tokens = torch.randn(2, 2, 3, 8), torch.randn(2, 2, 1, 4, 8)
    repeated = tokens.expand(-1, -1, 3, -1, -1)
    a, b = (layer(x, x, PromptTokens("visual", x, x, each, each)) for each in (tokens, repeated))
    torch.testing.assert_close(a, b)
