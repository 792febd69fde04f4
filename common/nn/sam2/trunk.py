"""The Hiera trunk: transformers' modules and weights, without the attention maps that they compute and discard."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from common.nn.fast import linear, sdpa
from common.nn.sam2.types import TransformersModule


def encode_trunk(trunk: TransformersModule, images: Tensor, checkpointed: bool = False) -> list[Tensor]:
    """Encode images by the four stages of Hiera, at strides 4, 8, 16 and 32.

    Args:
        trunk: transformers' ``Sam2HieraDetModel``.
        images: (B, 3, S, S), normalised.
        checkpointed: recompute activations in the backward pass.

    Returns:
        The output of each stage, channels last: (B, S / stride, S / stride, width).
    """
    x = trunk.patch_embed(images)
    x = x + trunk._get_pos_embed(x.shape[1:3])
    ends = []
    for index, block in enumerate(trunk.blocks):
        if checkpointed and torch.is_grad_enabled():
            x = checkpoint(_block, block, x, use_reentrant=False)
        else:
            x = _block(block, x)
        if index in trunk.stage_ends:
            ends.append(x)
    return ends


def _block(block: TransformersModule, x: Tensor) -> Tensor:
    """Apply window or global attention and an MLP, pre-norm; the first block of stages 2 to 4 halves the grid."""
    normed = block.layer_norm1(x)
    stride = block.query_stride[0] if block.query_stride else 1
    skip = x if block.dim == block.dim_out else _pool(linear(block.proj, normed), stride)
    height, width = skip.shape[1:3]
    if window := block.window_size:
        attended = _attention(block.attn, _partition(normed, window), stride)
        attended = _unpartition(attended, window // stride, height, width)
    else:
        attended = _attention(block.attn, normed, stride)
    x = skip + attended
    hidden = block.mlp.activation(linear(block.mlp.proj_in, block.layer_norm2(x)))
    return x + linear(block.mlp.proj_out, hidden)


def _attention(attention: TransformersModule, x: Tensor, stride: int) -> Tensor:
    """Attend inside each map (B, H, W, C); with a stride the queries are max-pooled, and the output is as small."""
    batch, height, width, _ = x.shape
    heads = attention.num_attention_heads
    query, key, value = linear(attention.qkv, x).view(batch, height * width, 3, -1).unbind(2)
    if stride > 1:
        query = _pool(query.reshape(batch, height, width, -1), stride)
        height, width = query.shape[1:3]
        query = query.flatten(1, 2)
    query, key, value = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (query, key, value))
    out = sdpa(query, key, value).transpose(1, 2).reshape(batch, height, width, -1)
    return linear(attention.proj, out)


def _pool(x: Tensor, stride: int) -> Tensor:
    """Max-pool a channels-last map."""
    return F.max_pool2d(x.permute(0, 3, 1, 2), stride, stride).permute(0, 2, 3, 1) if stride > 1 else x


def _partition(x: Tensor, size: int) -> Tensor:
    """Cut (B, H, W, C) into windows (B n, size, size, C), zero-padded at the right and the bottom."""
    height, width = x.shape[1:3]
    x = F.pad(x, (0, 0, 0, -width % size, 0, -height % size))
    x = x.unflatten(2, (-1, size)).unflatten(1, (-1, size))
    return x.transpose(2, 3).flatten(0, 2)


def _unpartition(windows: Tensor, size: int, height: int, width: int) -> Tensor:
    """Join windows (B n, size, size, C) and crop the padding: (B, height, width, C)."""
    down, right = -(-height // size), -(-width // size)
    x: Tensor = windows.unflatten(0, (-1, down, right)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return x[:, :height, :width]
