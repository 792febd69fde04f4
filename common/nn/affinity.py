"""Reading a memory of tokens by anisotropic L2 similarity (XMem, Cheng and Schwing, arXiv 2207.07115, section 3.3).

Legend: B batch, M query tokens, N memory tokens, C key channels; a value is any (B, N, ...).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from common.nn.fast import attend

_ROWS = 1 << 22  # similarities held at once when only the largest of each row are kept: 16 MB


def similarity(key: Tensor, shrinkage: Tensor, query: Tensor, selection: Tensor) -> Tensor:
    """S_ij = -s_j Σ_c e_ic (k_jc - q_ic)² / √C, always in float32, as one matrix product.

    Args:
        key: (B, N, C) of the memory.
        shrinkage: s, (B, N, 1), at least 1.
        query: (B, M, C).
        selection: e, (B, M, C), 0 to 1.

    Returns:
        (B, M, N), at most 0 up to rounding.
    """
    left, right = _factors(key, shrinkage, query, selection)
    return _without_autocast_product(left, right)


def top_k(key: Tensor, shrinkage: Tensor, query: Tensor, selection: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Softmax over the k most similar memory tokens of each query; all of them where there are fewer.

    Returns:
        Weights float32 (B, M, k) and indices int64 (B, M, k) into N.
    """
    left, right = _factors(key, shrinkage, query, selection)
    k = min(k, key.shape[1])
    best = [_without_autocast_product(part, right).topk(k, sorted=False) for part in _parts(left, right)]
    weights = torch.cat([values for values, _ in best], 1).softmax(-1)
    return weights, torch.cat([index for _, index in best], 1)


def gather_read(weights: Tensor, index: Tensor, value: Tensor) -> Tensor:
    """Weighted sum of k value tokens a query, without a dense (M, N) matrix.

    Args:
        weights, index: (B, M, k).
        value: (B, N, ...), contiguous.

    Returns:
        (B, M, ...).
    """
    batch, queries = index.shape[:2]
    table = value.flatten(2).flatten(0, 1)
    offset = torch.arange(batch, device=index.device)[:, None, None] * value.shape[1]
    rows, share = (index + offset).flatten(0, 1), weights.to(table.dtype).flatten(0, 1)
    return F.embedding_bag(rows, table, per_sample_weights=share, mode="sum").view(batch, queries, *value.shape[2:])


def softmax_read(key: Tensor, shrinkage: Tensor, query: Tensor, selection: Tensor, value: Tensor) -> Tensor:
    """Read with a softmax over all memory tokens, for training: value (B, N, ...) to (B, M, ...)."""
    left, right = _factors(key, shrinkage, query, selection)
    with torch.autocast(value.device.type, enabled=False):
        out = attend(left, right, value.float().flatten(2), 1.0)
    return out.view(*query.shape[:2], *value.shape[2:])


def _factors(key: Tensor, shrinkage: Tensor, query: Tensor, selection: Tensor) -> tuple[Tensor, Tensor]:
    """(B, M, 2C + 1) and (B, N, 2C + 1) whose product is the similarity: the square, the product, the constant."""
    key, shrinkage, query, selection = key.float(), shrinkage.float(), query.float(), selection.float()
    weighted = selection * query
    left = torch.cat([-selection, 2 * weighted, -(weighted * query).sum(-1, keepdim=True)], -1)
    right = torch.cat([key * key, key, torch.ones_like(shrinkage)], -1) * (shrinkage / sqrt(key.shape[-1]))
    return left, right


def _without_autocast_product(left: Tensor, right: Tensor) -> Tensor:
    with torch.autocast(left.device.type, enabled=False):
        return left @ right.transpose(1, 2)


def _parts(left: Tensor, right: Tensor) -> Iterator[Tensor]:
    yield from left.split(max(1, _ROWS // (len(left) * right.shape[1])), 1)
