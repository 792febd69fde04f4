"""Published SAM 2 weights, and ours, into the core.

Three forms are read: the official ``.pt`` files of SAM 2 and 2.1, a transformers folder that is already on disk, and
our own checkpoints. Official names are translated to transformers'.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from common.checkpoints import load_state, load_strict
from common.errors import InputError
from common.nn.sam2.model import SAM2

NANO = Path(__file__).parents[3] / "weights" / "sam2_nano.safetensors"
"""Our nano weights, trained on generated clips only; the record that made them lies beside."""

# Official name -> transformers name, applied in order to every key.
_RENAME = [
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
]
# The memory encoder's mask downsampler: convolutions at 0, 3, 6, 9, their norms one further.
_DOWNSAMPLER = re.compile(r"^memory_encoder\.mask_downsampler\.encoder\.(\d+)\.")
# Every MLP is a list of layers officially; transformers names the first and the last.
_MLP = re.compile(
    r"^(object_pointer_proj|mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head)"
    r"|.*\.mlp)\.layers\.(\d)\."
)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An official SAM 2 / 2.1 state dict with transformers' names (471 tensors of 2.1 tiny become 469)."""
    state = dict(state)
    points = [state.pop(f"sam_prompt_encoder.point_embeddings.{i}.weight", None) for i in range(4)]
    out = {_translate(key): value for key, value in state.items()}
    if all(p is not None for p in points):
        out["prompt_encoder.point_embed.weight"] = torch.cat([p for p in points if p is not None])
    fourier = "shared_image_embedding.positional_embedding"
    if fourier in out:
        out["prompt_encoder.shared_embedding.positional_embedding"] = out[fourier]
    return out


def _translate(key: str) -> str:
    if match := _DOWNSAMPLER.match(key):
        index = int(match[1])
        if index < 12:
            kind = "conv" if index % 3 == 0 else "layer_norm"
            return _DOWNSAMPLER.sub(f"memory_encoder.mask_downsampler.layers.{index // 3}.{kind}.", key)
    for pattern, name in _RENAME:
        key = re.sub(pattern, name, key)
    if match := _MLP.match(key):
        blocks = ".blocks." in key or ".transformer.layers." in key  # two-layer MLPs
        names = {0: "proj_in", (1 if blocks else 2): "proj_out"}
        new = names.get(int(match[2]), f"layers.{int(match[2]) - 1}")
        key = f"{match[1]}.{new}.{key[match.end() :]}"
    return key


def load_sam2(model: SAM2, weights: str | Path) -> Path:
    """Load weights into ``model``; every key and size must fit.

    Args:
        weights: ``nano`` (the weights in this repository), a transformers folder, an official ``.pt`` file, or a
            checkpoint of ours (``.safetensors``, ``.ckpt``).

    Returns:
        The file that was read.

    Raises:
        InputError: no such file or folder (with where the published ones come from), or keys that do not fit.
    """
    path = NANO if weights == "nano" else Path(weights)
    file = path / "model.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise InputError(
            f"{file}: no such weights. The published SAM 2 files are linked at github.com/facebookresearch/sam2 "
            f"(sam2.1_hiera_{model.size}.pt and so on); put one on disk and give its path"
        )
    load_strict(model.net, _ours(load_state(file)), file)
    return file


def export(checkpoint: str | Path, path: str | Path) -> None:
    """Write the SAM 2 weights of any readable file in half precision, as safetensors."""
    state = _ours(load_state(checkpoint))
    save_file({key: value.half().contiguous().clone() for key, value in state.items()}, path)


def _ours(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of any of the three forms, made those of ``SAM2.net``; half precision becomes float32."""
    if any(key.startswith("image_encoder.trunk.") for key in state):
        state = from_official(state)
    inside = [key for key in state if ".net.vision_encoder." in f".{key}"]
    if inside:  # a Lightning checkpoint or a SAM2 module: keep what lies under its core
        prefix = inside[0][: inside[0].index("vision_encoder.")]
        state = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    return {key: value.float() for key, value in state.items()}
