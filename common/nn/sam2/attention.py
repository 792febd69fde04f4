"""Memory attention over a batch of banks, the step in which SAM 2 spends most of its time.

The result is that of transformers' ``Sam2VideoMemoryAttention``, whose weights are used. Two savings do not change it.
The first layer's self-attention, which sees no memory, runs once for all banks that share a frame. Without gradients,
on a CPU, values stay 64 channels wide until after the attention, since a weighted mean commutes with their linear
projection; the fast kernels of a GPU want values as wide as keys.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from common.nn.fast import attend, linear, sdpa
from common.nn.sam2.types import TransformersModule

Rotation = Tensor
"""RoPE as complex factors (tokens, C / 2)."""


def read_memory(
    attention: TransformersModule,
    embedding: Tensor,
    position: Tensor,
    tokens: Tensor,
    token_positions: Tensor,
    token_weights: Tensor | None,
    pointer_tokens: int,
    checkpointed: bool = False,
) -> Tensor:
    """Condition the embeddings of frames on memory.

    Args:
        attention: transformers' memory attention module.
        embedding: of frames, (F, C, h, w) with F = 1 (one frame for all banks) or F = B.
        position: sine encoding of a frame, (1, h w, C).
        tokens: memory tokens (B, n, 64), those of pointers last.
        token_positions: positional encoding of the memory tokens, (1, n, 64).
        token_weights: (B, n, 1), multiplied with token + position before the key projection, or None.
        pointer_tokens: number of tokens of pointers, which have no place in the frame and are not rotated.
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
    conditioned: Tensor = attention.layer_norm(x).transpose(1, 2).unflatten(2, (height, width))
    return conditioned


def _layer(
    layer: TransformersModule, x: Tensor, keys: Tensor, tokens: Tensor, rotation: Rotation, pointer_tokens: int
) -> Tensor:
    """Apply a layer: self-attention, cross-attention to memory, feed-forward part; all pre-norm."""
    x = x + layer.dropout1(_self_attention(layer.self_attn, layer.layer_norm1(x), rotation))
    memory = _cross_attention(layer.cross_attn_image, layer.layer_norm2(x), keys, tokens, rotation, pointer_tokens)
    x = x + layer.dropout2(memory)
    hidden = layer.dropout(layer.activation(linear(layer.linear1, layer.layer_norm3(x))))
    out: Tensor = x + layer.dropout3(linear(layer.linear2, hidden))
    return out


def _self_attention(attention: TransformersModule, x: Tensor, rotation: Rotation) -> Tensor:
    """Attend within the frame (F, h w, C)."""
    query = _rotate(linear(attention.q_proj, x), rotation)
    key = _rotate(linear(attention.k_proj, x), rotation)
    value = linear(attention.v_proj, x)
    return linear(attention.o_proj, _heads(attention, query, key, value))


def _cross_attention(
    attention: TransformersModule, x: Tensor, keys: Tensor, tokens: Tensor, rotation: Rotation, pointer_tokens: int
) -> Tensor:
    """Attend from the frame (F, h w, C) to memory (B, n, 64)."""
    query = _rotate(linear(attention.q_proj, x), rotation)
    query = query.expand(len(keys), -1, -1)
    key = linear(attention.k_proj, keys)
    map_tokens = key.shape[1] - pointer_tokens
    if map_tokens:
        frames = map_tokens // len(rotation)
        rotated = _rotate(key[:, :map_tokens].unflatten(1, (frames, len(rotation))), rotation).flatten(1, 2)
        key = torch.cat([rotated, key[:, map_tokens:]], 1)
    if attention.num_attention_heads == 1 and not torch.is_grad_enabled() and key.device.type == "cpu":
        mean = attend(query, key, tokens, attention.scaling)
        return linear(attention.o_proj, linear(attention.v_proj, mean))
    return linear(attention.o_proj, _heads(attention, query, key, linear(attention.v_proj, tokens)))


def _heads(attention: TransformersModule, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute scaled dot-product attention over projected (B, tokens, heads x width)."""
    if attention.num_attention_heads == 1 and not torch.is_grad_enabled():
        return attend(query, key, value, attention.scaling)
    heads = (attention.num_attention_heads, -1)
    query, key, value = (x.unflatten(-1, heads).transpose(1, 2) for x in (query, key, value))
    out = sdpa(query, key, value, dropout_p=attention.dropout_p if attention.training else 0.0)
    return out.transpose(1, 2).flatten(2)


def _rotation(attention: TransformersModule, device: torch.device) -> Rotation:
    """Compute the axial RoPE factors exp(i position x frequency) of a frame's grid: x in the first half, then y."""
    ids, frequencies = attention.position_ids.to(device), attention.rotary_emb.inv_freq.to(device)
    angles = (ids[..., None].float() * frequencies).flatten(1)
    return torch.polar(torch.ones_like(angles), angles)


def _rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate neighbouring channel pairs of (..., tokens, C), in float32."""
    if torch.compiler.is_compiling():  # the compiler does not fuse complex numbers
        real, imaginary = x.float().unflatten(-1, (-1, 2)).unbind(-1)
        cos, sin = torch.view_as_real(rotation).unbind(-1)
        return torch.stack([real * cos - imaginary * sin, real * sin + imaginary * cos], -1).flatten(-2).type_as(x)
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotation).flatten(-2).type_as(x)
