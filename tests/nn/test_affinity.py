"""Reading a token memory: the formula, the k largest, and all of them."""

from __future__ import annotations

import math

import pytest
import torch

from common.nn import affinity
from common.nn.affinity import gather_read, similarity, softmax_read, top_k


@pytest.fixture
def memory() -> dict[str, torch.Tensor]:
    """B = 2, N = 23 memory tokens, M = 7 queries, C = 5; values of 3 targets."""
    generator = torch.Generator().manual_seed(0)
    key, query = (torch.randn(2, n, 5, generator=generator) for n in (23, 7))
    return {
        "key": key,
        "shrinkage": 1 + torch.rand(2, 23, 1, generator=generator),
        "query": query,
        "selection": torch.rand(2, 7, 5, generator=generator),
        "value": torch.randn(2, 23, 3, 4, generator=generator),
    }


def parts(memory) -> tuple[torch.Tensor, ...]:
    return memory["key"], memory["shrinkage"], memory["query"], memory["selection"]


def formula(memory) -> torch.Tensor:
    """-s Σ e (k - q)² / √C, term by term in float64."""
    key, shrinkage, query, selection = (x.double() for x in parts(memory))
    square = (key[:, None] - query[:, :, None]) ** 2 * selection[:, :, None]
    return -shrinkage[:, None, :, 0] * square.sum(-1) / math.sqrt(key.shape[-1])


def test_similarity_is_the_formula(memory):
    torch.testing.assert_close(similarity(*parts(memory)).double(), formula(memory), atol=1e-5, rtol=1e-5)


def test_similarity_by_hand():
    # k = (1, 3), q = (0, 1), e = (1, 0.5), s = 2: -2 (1 * 1 + 0.5 * 4) / √2 = -6 / √2
    got = similarity(
        torch.tensor([[[1.0, 3.0]]]),
        torch.tensor([[[2.0]]]),
        torch.tensor([[[0.0, 1.0]]]),
        torch.tensor([[[1.0, 0.5]]]),
    )
    assert got.item() == pytest.approx(-6 / math.sqrt(2))


@pytest.mark.parametrize("rows", [1 << 22, 30])  # in one part, and a query or so at a time
@pytest.mark.parametrize("k", [1, 6, 23, 99])
def test_top_k_is_the_dense_reference(memory, k, rows, monkeypatch):
    monkeypatch.setattr(affinity, "_CHUNK", rows)
    dense = formula(memory)
    kept = dense >= dense.sort(-1, descending=True).values[..., min(k, 23) - 1 : min(k, 23)]
    share = dense.masked_fill(~kept, -math.inf).softmax(-1)
    expected = torch.einsum("bmn,bnoc->bmoc", share, memory["value"].double())
    weights, index = top_k(*parts(memory), k)
    assert weights.shape == index.shape == (2, 7, min(k, 23))
    torch.testing.assert_close(gather_read(weights, index, memory["value"]).double(), expected, atol=1e-5, rtol=1e-5)


def test_softmax_read_is_top_k_of_all_and_has_gradients(memory):
    expected = gather_read(*top_k(*parts(memory), 23), memory["value"])
    for tensor in memory.values():
        tensor.requires_grad_()
    read = softmax_read(*parts(memory), memory["value"])
    torch.testing.assert_close(read, expected, atol=1e-5, rtol=1e-5)
    read.sum().backward()
    assert all(tensor.grad.isfinite().all() and tensor.grad.any() for tensor in memory.values())


def test_far_queries_do_not_underflow(memory):
    weights, _ = top_k(memory["key"], memory["shrinkage"], memory["query"] + 100, memory["selection"], 5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 7))


def test_half_precision_is_read_in_float32(memory):
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(similarity(*parts(memory)).double(), formula(memory), atol=1e-5, rtol=1e-5)
