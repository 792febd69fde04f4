"""The names of the official SAM 2 files for a transformers state dict."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

# transformers -> official, written down from the modules of both: whole prefixes first, then parts of names.
PREFIXES = {
    "vision_encoder.backbone.patch_embed.projection.": "image_encoder.trunk.patch_embed.proj.",
    "vision_encoder.backbone.": "image_encoder.trunk.",
    "memory_temporal_positional_encoding": "maskmem_tpos_enc",
    "no_memory_embedding": "no_mem_embed",
    "no_memory_positional_encoding": "no_mem_pos_enc",
    "no_object_pointer": "no_obj_ptr",
    "occlusion_spatial_embedding_parameter": "no_obj_embed_spatial",
    "object_pointer_proj.": "obj_ptr_proj.",
    "temporal_positional_encoding_projection_layer.": "obj_ptr_tpos_proj.",
    "shared_image_embedding.positional_embedding": "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    "prompt_encoder.mask_embed.conv1.": "sam_prompt_encoder.mask_downscaling.0.",
    "prompt_encoder.mask_embed.layer_norm1.": "sam_prompt_encoder.mask_downscaling.1.",
    "prompt_encoder.mask_embed.conv2.": "sam_prompt_encoder.mask_downscaling.3.",
    "prompt_encoder.mask_embed.layer_norm2.": "sam_prompt_encoder.mask_downscaling.4.",
    "prompt_encoder.mask_embed.conv3.": "sam_prompt_encoder.mask_downscaling.6.",
    "prompt_encoder.": "sam_prompt_encoder.",
    "mask_decoder.upscale_conv1.": "sam_mask_decoder.output_upscaling.0.",
    "mask_decoder.upscale_layer_norm.": "sam_mask_decoder.output_upscaling.1.",
    "mask_decoder.upscale_conv2.": "sam_mask_decoder.output_upscaling.3.",
    "mask_decoder.": "sam_mask_decoder.",
    "memory_attention.layer_norm.": "memory_attention.norm.",
    "memory_encoder.mask_downsampler.final_conv.": "memory_encoder.mask_downsampler.encoder.12.",
    "memory_encoder.feature_projection.": "memory_encoder.pix_feat_proj.",
    "memory_encoder.projection.": "memory_encoder.out_proj.",
    "memory_encoder.memory_fuser.": "memory_encoder.fuser.",
}
PARTS = {".o_proj.": ".out_proj.", ".scale": ".gamma", ".depthwise_conv.": ".dwconv.", ".pointwise_conv": ".pwconv"}


def official_name(key: str) -> str:
    if match := re.match(r"vision_encoder\.neck\.convs\.(\d)\.(.*)", key):
        return f"image_encoder.neck.convs.{match[1]}.conv.{match[2]}"
    if match := re.match(r"memory_encoder\.mask_downsampler\.layers\.(\d)\.(conv|layer_norm)\.(.*)", key):
        return f"memory_encoder.mask_downsampler.encoder.{3 * int(match[1]) + (match[2] == 'layer_norm')}.{match[3]}"
    three = key.startswith(
        ("object_pointer_proj.", "mask_decoder.output_hyper", "mask_decoder.iou_", "mask_decoder.pred_")
    )
    for prefix, official in PREFIXES.items():
        if key.startswith(prefix):
            key = official + key[len(prefix) :]
            break
    for part, official in PARTS.items():
        if key.startswith("memory_encoder.") or part == ".o_proj.":
            key = key.replace(part, official)
    if three:
        key = (
            key.replace(".layers.0.", ".layers.1.")
            .replace(".proj_in.", ".layers.0.")
            .replace(".proj_out.", ".layers.2.")
        )
    key = key.replace(".proj_in.", ".layers.0.").replace(".proj_out.", ".layers.1.")
    if ".mask_downscaling." in key or ".output_upscaling." in key:
        return key
    return re.sub(r"\.layer_norm(\d|_final_attn|)\.", r".norm\1.", key)


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    out = {}
    for key, value in state.items():
        if key == "prompt_encoder.point_embed.weight":
            for row in range(4):
                out[f"sam_prompt_encoder.point_embeddings.{row}.weight"] = value[row : row + 1].clone()
        elif key != "prompt_encoder.shared_embedding.positional_embedding":
            out[official_name(key)] = value
    return out
