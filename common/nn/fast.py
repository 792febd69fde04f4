"""Faster matrix products and attention on CPUs, exact up to rounding; on other devices they are torch's own.

torch sends float32 matrix products on a CPU to MKL, which on many processors reaches half the rate of oneDNN, the
library that torch already uses for convolutions. Products of oneDNN tensors go to oneDNN.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_WORTHWHILE = 1 << 24  # multiply-adds; below, copying into oneDNN's tensors costs more than it saves
_QUERIES = 256  # rows of the attention matrix held at once: 30 MB at SAM 2's full memory


def _use_onednn(*tensors: Tensor) -> bool:
    """Whether oneDNN can be used: float32 on a CPU, without autocast and gradients, which its tensors do not have."""
    return (
        not torch.is_grad_enabled()
        and torch.backends.mkldnn.is_available()
        and all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
        and not torch.is_autocast_enabled("cpu")
    )


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """Apply a linear layer to x (..., C_in)."""
    if x.numel() * layer.out_features < _WORTHWHILE or not _use_onednn(x, layer.weight):
        out: Tensor = layer(x)
        return out
    bias = None if layer.bias is None else layer.bias.to_mkldnn()
    return F.linear(x.contiguous().to_mkldnn(), layer.weight.to_mkldnn(), bias).to_dense()


def attend(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Compute single-head attention softmax(query keyᵀ scale) value.

    Args:
        query: (B, n, C).
        key: (B, m, C).
        value: (B, m, D) with any D.
        scale: factor of the logits.

    Returns:
        (B, n, D).
    """
    if query.shape[1] * key.shape[1] * query.shape[2] < _WORTHWHILE or not _use_onednn(query, key, value):
        return sdpa(query[:, None], key[:, None], value[:, None], scale=scale)[:, 0]
    out = query.new_empty(*query.shape[:2], value.shape[-1])
    for row in range(len(query)):
        keys, values = key[row].contiguous().to_mkldnn(), value[row].t().contiguous().to_mkldnn()
        for start in range(0, query.shape[1], _QUERIES):
            part = slice(start, start + _QUERIES)
            logits = F.linear((query[row, part] * scale).contiguous().to_mkldnn(), keys).to_dense()
            out[row, part] = F.linear(logits.softmax(-1).to_mkldnn(), values).to_dense()
    return out


def sdpa(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
    """Compute ``scaled_dot_product_attention``; on a CPU always in float32, whose kernel is faster there.

    The kernels of cuDNN want the channels of a token next to each other, and give the output the strides of the query.

    Args:
        query: (..., n, C).
        key: (..., m, C).
        value: (..., m, D).
        options: of torch's function.
    """
    query, key, value = _with_rows(query), _with_rows(key), _with_rows(value)
    if query.device.type != "cpu" or (query.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")):
        return F.scaled_dot_product_attention(query, key, value, **options)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(query.float(), key.float(), value.float(), **options).to(query.dtype)


def _with_rows(x: Tensor) -> Tensor:
    """Return x (..., n, C) with the channels of a token next to each other, and no dimension expanded."""
    return x if x.stride(-1) == 1 and 0 not in x.stride() else x.contiguous()
