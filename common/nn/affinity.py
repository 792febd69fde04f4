"""Anisotropic L2 similarity, and reading a memory by it (XMem, Cheng & Schwing, arXiv 2207.07115, section 3.3).

Legend: B batch, M query tokens, N memory tokens, C key channels; values have any shape (B, N, ...).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from common.nn.fast import attend

_CHUNK = 1 << 22  # similarities computed at once when only the k largest of each row are needed: 16 MB


def similarity(key: Tensor, shrinkage: Tensor, query: Tensor, selection: Tensor) -> Tensor:
    """Return S_ij = -s_j Σ_c e_ic (k_jc - q_ic)² / √C, computed in float32 as one matrix product.

    Args:
        key: k, (B, N, C), of the memory.
        shrinkage: s, (B, N, 1), at least 1.
        query: q, (B, M, C).
        selection: e, (B, M, C), in [0, 1].

    Returns:
        float32 (B, M, N), at most 0 up to rounding.
    """
    left, right = _factors(key, shrinkage, query, selection)
    return _product(left, right)


def top_k(key: Tensor, shrinkage: Tensor, query: Tensor, selection: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the softmax over the k most similar memory tokens of each query.

    Args:
        key: see ``similarity``.
        shrinkage: see ``similarity``.
        query: see ``similarity``.
        selection: see ``similarity``.
        k: number of tokens; all of them where the memory has fewer.

    Returns:
        Weights float32 (B, M, k) and indices int64 (B, M, k) into N.
    """
    left, right = _factors(key, shrinkage, query, selection)
    k = min(k, key.shape[1])
    best = [_product(part, right).topk(k, sorted=False) for part in _chunks(left, right)]
    weights = torch.cat([values for values, _ in best], 1).softmax(-1)
    return weights, torch.cat([index for _, index in best], 1)


def gather_read(weights: Tensor, index: Tensor, value: Tensor) -> Tensor:
    """Return the weighted sum of k value tokens per query, without a dense (M, N) matrix.

    Args:
        weights: (B, M, k).
        index: int64 (B, M, k), into N.
        value: (B, N, ...), contiguous.

    Returns:
        (B, M, ...).
    """
    batch, queries = index.shape[:2]
    # An embedding bag over one table for all samples; each sample's rows are offset to its part of the table.
    table = value.flatten(2).flatten(0, 1)
    offset = torch.arange(batch, device=index.device)[:, None, None] * value.shape[1]
    rows, share = (index + offset).flatten(0, 1), weights.to(table.dtype).flatten(0, 1)
    return F.embedding_bag(rows, table, per_sample_weights=share, mode="sum").view(batch, queries, *value.shape[2:])


def softmax_read(key: Tensor, shrinkage: Tensor, query: Tensor, selection: Tensor, value: Tensor) -> Tensor:
    """Read the memory with a softmax over all its tokens, for training.

    Args:
        key: see ``similarity``.
        shrinkage: see ``similarity``.
        query: see ``similarity``.
        selection: see ``similarity``.
        value: (B, N, ...).

    Returns:
        (B, M, ...).
    """
    left, right = _factors(key, shrinkage, query, selection)
    with torch.autocast(value.device.type, enabled=False):
        out = attend(left, right, value.float().flatten(2), 1.0)
    return out.view(*query.shape[:2], *value.shape[2:])


def _factors(key: Tensor, shrinkage: Tensor, query: Tensor, selection: Tensor) -> tuple[Tensor, Tensor]:
    """Return factors (B, M, 2C + 1) and (B, N, 2C + 1) whose product is the similarity.

    -e (k - q)² = -e k² + 2 e q k - e q²; the last term is a constant of the query and has a column of its own.
    """
    key, shrinkage, query, selection = key.float(), shrinkage.float(), query.float(), selection.float()
    weighted = selection * query
    left = torch.cat([-selection, 2 * weighted, -(weighted * query).sum(-1, keepdim=True)], -1)
    right = torch.cat([key * key, key, torch.ones_like(shrinkage)], -1) * (shrinkage / sqrt(key.shape[-1]))
    return left, right


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Multiply in float32 under autocast too; half precision is too coarse for the sum of large terms."""
    with torch.autocast(left.device.type, enabled=False):
        return left @ right.transpose(1, 2)


def _chunks(left: Tensor, right: Tensor) -> Iterator[Tensor]:
    yield from torch.split(left, max(1, _CHUNK // (len(left) * right.shape[1])), 1)
