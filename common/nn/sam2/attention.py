"""Memory attention over a batch of banks, the stage where SAM 2 spends most of its time.

The same result as transformers' ``Sam2VideoMemoryAttention`` on its own weights, with two exact savings when no
gradient is asked for: the first layer's self-attention, which sees no memory, runs once for all banks that share a
frame; and values stay 64 wide until after the attention, since a weighted mean commutes with their projection.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from common.nn.fast import attend, linear, sdpa

Rotation = Tensor
"""RoPE as complex factors (tokens, C / 2)."""


def read_memory(
    attention: Any,
    embedding: Tensor,
    position: Tensor,
    tokens: Tensor,
    token_positions: Tensor,
    token_weights: Tensor | None,
    pointer_tokens: int,
    checkpointed: bool = False,
) -> Tensor:
    """Condition frames on memory.

    Args:
        attention: transformers' memory attention module.
        embedding: (F, C, h, w) with F = 1 (one frame for all banks) or F = B.
        position: (1, h w, C), sine encoding of the frame.
        tokens: (B, n, 64) memory, pointers last.
        token_positions: (1, n, 64).
        token_weights: (B, n, 1) multiplied onto token + position before the key projection, or None.
        pointer_tokens: how many of the n are pointers, which RoPE leaves alone.
        checkpointed: recompute activations in the backward pass.

    Returns:
        (B, C, h, w).
    """
    height, width = embedding.shape[-2:]
    x = embedding.flatten(2).transpose(1, 2)
    x = x + 0.1 * position.to(x.dtype)
    keys = tokens + token_positions.to(tokens.dtype)
    if token_weights is not None:
        keys = keys * token_weights.to(keys.dtype)
    rotation = _rotation(attention, x.device)
    for layer in attention.layers:
        if checkpointed and torch.is_grad_enabled():
            x = checkpoint(_layer, layer, x, keys, tokens, rotation, pointer_tokens, use_reentrant=False)
        else:
            x = _layer(layer, x, keys, tokens, rotation, pointer_tokens)
    return attention.layer_norm(x).transpose(1, 2).unflatten(2, (height, width))


def _layer(layer: Any, x: Tensor, keys: Tensor, tokens: Tensor, rotation: Rotation, pointer_tokens: int) -> Tensor:
    """One layer: self-attention, cross-attention to memory, feed-forward; all pre-norm."""
    x = x + layer.dropout1(_self_attention(layer.self_attn, layer.layer_norm1(x), rotation))
    seen = _cross_attention(layer.cross_attn_image, layer.layer_norm2(x), keys, tokens, rotation, pointer_tokens)
    x = x + layer.dropout2(seen)
    hidden = layer.dropout(layer.activation(linear(layer.linear1, layer.layer_norm3(x))))
    return x + layer.dropout3(linear(layer.linear2, hidden))


def _self_attention(attention: Any, x: Tensor, rotation: Rotation) -> Tensor:
    query = _rotate(linear(attention.q_proj, x), rotation)
    key = _rotate(linear(attention.k_proj, x), rotation)
    value = linear(attention.v_proj, x)
    return linear(attention.o_proj, _heads(attention, query, key, value))


def _cross_attention(
    attention: Any, x: Tensor, keys: Tensor, tokens: Tensor, rotation: Rotation, pointer_tokens: int
) -> Tensor:
    query = _rotate(linear(attention.q_proj, x), rotation)
    query = query.expand(len(keys), -1, -1)
    key = linear(attention.k_proj, keys)
    spatial = key.shape[1] - pointer_tokens
    if spatial:
        frames = spatial // len(rotation)
        turned = _rotate(key[:, :spatial].unflatten(1, (frames, len(rotation))), rotation).flatten(1, 2)
        key = torch.cat([turned, key[:, spatial:]], 1)
    if attention.num_attention_heads == 1 and not torch.is_grad_enabled():
        mean = attend(query, key, tokens, attention.scaling)
        return linear(attention.o_proj, linear(attention.v_proj, mean))
    return linear(attention.o_proj, _heads(attention, query, key, linear(attention.v_proj, tokens)))


def _heads(attention: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention over (B, tokens, heads x width)."""
    if attention.num_attention_heads == 1 and not torch.is_grad_enabled():
        return attend(query, key, value, attention.scaling)
    split = lambda t: t.unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)  # noqa: E731
    dropout = attention.dropout_p if attention.training else 0.0
    out = sdpa(split(query), split(key), split(value), dropout_p=dropout)
    return out.transpose(1, 2).flatten(2)


def _rotation(attention: Any, device: torch.device) -> Rotation:
    """Axial RoPE factors of the frame's grid: exp(i position x frequency), rows first half x, second half y."""
    ids, frequencies = attention.position_ids.to(device), attention.rotary_emb.inv_freq.to(device)
    angles = (ids[..., None].float() * frequencies).flatten(1)
    return torch.polar(torch.ones_like(angles), angles)


def _rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate neighbouring channel pairs of (..., tokens, C) in float32."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotation).flatten(-2).type_as(x)
