"""Weights of SAM 2: the official ``.pt`` files of versions 2 and 2.1, transformers folders, and files of this suite.

Official names are translated to transformers'.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from common.checkpoints import load_state, load_strict, rename, weights_file
from common.nn.sam2.model import SAM2
from common.nn.sam2.published import PUBLISHED, find_sam2


def _downsampler(match: re.Match[str]) -> str:
    """Name a layer of the memory encoder's mask downsampler: convolutions at 0, 3, 6, 9, their norms one further."""
    kind = "conv" if int(match[1]) % 3 == 0 else "layer_norm"
    return f"memory_encoder.mask_downsampler.layers.{int(match[1]) // 3}.{kind}."


def _mlp(match: re.Match[str]) -> str:
    """Name a layer of an MLP: officially all are a list, transformers names the first and the last."""
    two_layers = ".blocks." in match[1] or ".transformer.layers." in match[1]
    names = {0: "proj_in", (1 if two_layers else 2): "proj_out"}
    return f"{match[1]}.{names.get(int(match[2]), f'layers.{int(match[2]) - 1}')}."


# Official name -> transformers name, applied in order to every key.
_RULES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"^memory_encoder\.mask_downsampler\.encoder\.(\d|1[01])\.", _downsampler),
    (r"^image_encoder\.trunk\.patch_embed\.proj\.", "vision_encoder.backbone.patch_embed.projection."),
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"^maskmem_tpos_enc$", "memory_temporal_positional_encoding"),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"^no_mem_pos_enc$", "no_memory_positional_encoding"),
    (r"^no_obj_ptr$", "no_object_pointer"),
    (r"^no_obj_embed_spatial$", "occlusion_spatial_embedding_parameter"),
    (r"^obj_ptr_proj\.", "object_pointer_proj."),
    (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
    (
        r"^sam_prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$",
        "shared_image_embedding.positional_embedding",
    ),
    (r"^sam_prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"^sam_prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"^sam_prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"^sam_prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"^sam_prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^sam_mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"^sam_mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"^sam_mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"^memory_attention\.norm\.", "memory_attention.layer_norm."),
    (r"^memory_encoder\.mask_downsampler\.encoder\.12\.", "memory_encoder.mask_downsampler.final_conv."),
    (r"^memory_encoder\.pix_feat_proj\.", "memory_encoder.feature_projection."),
    (r"^memory_encoder\.out_proj\.", "memory_encoder.projection."),
    (r"^memory_encoder\.fuser\.layers\.(\d+)\.gamma$", r"memory_encoder.memory_fuser.layers.\1.scale"),
    (r"^memory_encoder\.fuser\.layers\.(\d+)\.dwconv\.", r"memory_encoder.memory_fuser.layers.\1.depthwise_conv."),
    (r"^memory_encoder\.fuser\.layers\.(\d+)\.norm\.", r"memory_encoder.memory_fuser.layers.\1.layer_norm."),
    (r"^memory_encoder\.fuser\.layers\.(\d+)\.pwconv", r"memory_encoder.memory_fuser.layers.\1.pointwise_conv"),
    (r"\.out_proj\.", ".o_proj."),
    (r"\.norm(\d|_final_attn)\.", r".layer_norm\1."),
    (
        r"^(object_pointer_proj|mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head)"
        r"|.*\.mlp)\.layers\.(\d)\.",
        _mlp,
    ),
]


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an official SAM 2 / 2.1 state dict with transformers' names (471 tensors of 2.1 tiny become 469).

    Args:
        state: tensors by their official names.
    """
    state = dict(state)
    points = [state.pop(f"sam_prompt_encoder.point_embeddings.{i}.weight", None) for i in range(4)]
    out = rename(state, _RULES)
    if all(p is not None for p in points):
        out["prompt_encoder.point_embed.weight"] = torch.cat([p for p in points if p is not None])
    return _with_twin(out)


def sam2_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of any of the three forms under the names of ``SAM2.net``, in float32.

    Args:
        state: an official file, a transformers model, or a module with a SAM 2 inside, of which the rest is left out.
    """
    if any(key.startswith("image_encoder.trunk.") for key in state):
        state = from_official(state)
    inside = [key for key in state if ".net.vision_encoder." in f".{key}"]
    if inside:
        prefix = inside[0][: inside[0].index("vision_encoder.")]
        state = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    return {key: value.float() for key, value in _with_twin(state).items()}


def _with_twin(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the second name of the Fourier matrix, which points and positions share; transformers may store it once."""
    one, other = "shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding"
    matrix = state.get(one, state.get(other))
    return {**({} if matrix is None else {one: matrix, other: matrix}), **state}


def load_sam2(model: SAM2, path: str | Path) -> Path:
    """Load weights into a SAM 2; every key and size must fit.

    Args:
        model: the network.
        path: an official ``.pt`` file, a transformers folder, a file of this suite (``.safetensors``, ``.ckpt``), or a
            name that ``find_sam2`` knows.

    Returns:
        The file that was read.

    Raises:
        InputError: no such file or folder, or keys that do not fit.
    """
    file = weights_file(find_sam2(path), PUBLISHED)
    load_strict(model.net, sam2_state(load_state(file)), file)
    return file
