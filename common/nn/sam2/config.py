"""Configurations of SAM 2: tiny, small, base+ and large as published, nano and mini for CPUs."""

from __future__ import annotations

from typing import Any

from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VisionConfig
from transformers.models.sam2_video.configuration_sam2_video import (
    Sam2VideoMaskDecoderConfig,
    Sam2VideoPromptEncoderConfig,
)

from common.errors import InputError

# Hiera trunks: widths and blocks per stage, heads, window sizes, blocks with global attention, position grid.
TRUNKS: dict[str, dict[str, Any]] = {
    "tiny": dict(
        widths=(96, 192, 384, 768), blocks=(1, 2, 7, 2), heads=1, windows=(8, 4, 14, 7), global_blocks=(5, 7, 9), grid=7
    ),
    "small": dict(
        widths=(96, 192, 384, 768),
        blocks=(1, 2, 11, 2),
        heads=1,
        windows=(8, 4, 14, 7),
        global_blocks=(7, 10, 13),
        grid=7,
    ),
    "base_plus": dict(
        widths=(112, 224, 448, 896),
        blocks=(2, 3, 16, 3),
        heads=2,
        windows=(8, 4, 14, 7),
        global_blocks=(12, 16, 20),
        grid=14,
    ),
    "large": dict(
        widths=(144, 288, 576, 1152),
        blocks=(2, 6, 36, 4),
        heads=2,
        windows=(8, 4, 16, 8),
        global_blocks=(23, 33, 43),
        grid=7,
    ),
    "nano": dict(
        widths=(32, 64, 128, 192), blocks=(1, 2, 4, 1), heads=1, windows=(8, 4, 8, 4), global_blocks=(4, 6), grid=7
    ),
    "mini": dict(
        widths=(32, 64, 128, 192), blocks=(1, 2, 8, 2), heads=1, windows=(8, 4, 8, 4), global_blocks=(5, 9), grid=7
    ),
}
SIZES = tuple(TRUNKS)
TRUNK_NAMES = {"tiny": "Hiera-T", "small": "Hiera-S", "base_plus": "Hiera-B+", "large": "Hiera-L"}  # as printed
VERSIONS = ("2", "2.1")

SMALL = {"nano": 128, "mini": 384}
"""Sizes that are not published, and the default side of their input."""

# Sizes of nano and mini behind the trunk; the published models share transformers' defaults.
_SMALL_HEADS: dict[str, Any] = dict(
    memory_attention_hidden_size=64,
    memory_attention_feed_forward_hidden_size=256,
    memory_attention_dropout=0.0,
    memory_attention_rope_dropout=0.0,
    memory_encoder_hidden_size=64,
    mask_downsampler_embed_dim=64,
    memory_fuser_embed_dim=64,
    memory_fuser_intermediate_dim=256,
    memory_fuser_layer_scale_init_value=0.1,
)


def sam2_config(size: str = "tiny", version: str = "2.1", image_size: int | None = None) -> Sam2VideoConfig:
    """Return the transformers configuration of a SAM 2 model.

    Args:
        size: one of ``SIZES``. The published ones have 39, 46, 81 and 224 M parameters.
        version: ``"2"`` or ``"2.1"``; 2.1 adds the occlusion embedding and the pointers' temporal encoding.
        image_size: side of the square input, divisible by 32; default 1024 (nano 128, mini 384).

    Raises:
        InputError: an unknown size or version, or a side not divisible by 32.
    """
    if size not in SIZES:
        raise InputError(f"SAM 2 size {size!r} is unknown; choose one of {', '.join(SIZES)}")
    if version not in VERSIONS:
        raise InputError(f"SAM 2 version {version!r} is unknown; choose one of {', '.join(VERSIONS)}")
    small = size in SMALL
    side = image_size or SMALL.get(size, 1024)
    if side % 32:
        raise InputError(f"image_size {side} is not divisible by 32; try {round(side / 32) * 32 or 32}")
    trunk, hidden = TRUNKS[size], 64 if small else 256
    widths, heads = trunk["widths"], trunk["heads"]
    return Sam2VideoConfig(
        vision_config=Sam2VisionConfig(
            backbone_config=Sam2HieraDetConfig(
                hidden_size=widths[0],
                num_attention_heads=heads,
                image_size=[side, side],
                window_positional_embedding_background_size=[trunk["grid"]] * 2,
                blocks_per_stage=list(trunk["blocks"]),
                embed_dim_per_stage=list(widths),
                num_attention_heads_per_stage=[heads * 2**stage for stage in range(4)],
                window_size_per_stage=list(trunk["windows"]),
                global_attention_blocks=list(trunk["global_blocks"]),
            ),
            backbone_channel_list=list(widths[::-1]),
            backbone_feature_sizes=[[side // s, side // s] for s in (4, 8, 16)],
            fpn_hidden_size=hidden,
        ),
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(hidden_size=hidden, image_size=side),
        mask_decoder_config=Sam2VideoMaskDecoderConfig(
            hidden_size=hidden,
            mlp_dim=256 if small else 2048,
            num_attention_heads=4 if small else 8,
            iou_head_hidden_dim=hidden,
            dynamic_multimask_via_stability=False,
        ),
        image_size=side,
        memory_attention_rope_feat_sizes=[side // 16, side // 16],
        enable_occlusion_spatial_embedding=version == "2.1",
        enable_temporal_pos_encoding_for_object_pointers=version == "2.1",
        memory_attention_num_layers=2 if size == "nano" else 4,
        **(_SMALL_HEADS if small else {}),
    )
