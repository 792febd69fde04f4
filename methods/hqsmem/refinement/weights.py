"""SAM-HQ and DINO from files: their authors' layout, or a transformers folder that is already on disk."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    PreTrainedConfig,
    PreTrainedModel,
    SamHQConfig,
    SamHQModel,
    ViTConfig,
    ViTModel,
)
from transformers.models.sam_hq.configuration_sam_hq import SamHQMaskDecoderConfig, SamHQVisionConfig

from common.checkpoints import find_weights, load_state, load_strict, rename, weights_file
from common.errors import InputError
from common.files import PROJECT
from common.nn.vit_weights import common_names
from methods.hqsmem.refinement.mask_decoder import SAMHQNetwork

NANO_SAM, NANO_DINO = PROJECT / "weights" / "sam_hq_nano", PROJECT / "weights" / "dino_nano"
"""Trained here on generated clips only, as transformers folders; their records lie next to them."""

Config = TypeVar("Config", bound=PreTrainedConfig)

SAM_HINT = "sam_hq_vit_b.pth, _l, _h are linked at github.com/SysCV/sam-hq, folders are syscv-community/sam-hq-vit-*"
DINO_HINT = (
    "dino_vitbase16_pretrain.pth is linked at github.com/facebookresearch/dino, its folder is facebook/dino-vitb16"
)

# SAM's trunks by width: blocks, heads, blocks with global attention.
_TRUNKS = {768: (12, 12, (2, 5, 8, 11)), 1024: (24, 16, (5, 11, 17, 23)), 1280: (32, 16, (7, 15, 23, 31))}
# Name in SAM-HQ's files -> transformers', applied in order to every key.
_RULES = [
    (r"^image_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"^image_encoder\.blocks\.", "vision_encoder.layers."),
    (r"^image_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
    (r"^image_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
    (r"^image_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
    (r"^image_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
    (r"^image_encoder\.", "vision_encoder."),
    (
        r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$",
        "shared_image_embedding.positional_embedding",
    ),
    (r"^prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"^prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"^prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"^prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"^prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"^prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    (r"^mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"^mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"^mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    (r"^mask_decoder\.hf_token\.", "mask_decoder.hq_token."),
    (r"^mask_decoder\.hf_mlp\.", "mask_decoder.hq_mask_mlp."),
    (r"^mask_decoder\.compress_vit_feat\.", "mask_decoder.compress_vit_"),
    (r"^mask_decoder\.embedding_encoder\.", "mask_decoder.encoder_"),
    (r"^mask_decoder\.embedding_maskfeature\.", "mask_decoder.mask_"),
    (r"(compress_vit_|encoder_|mask_)0\.", r"\1conv1."),
    (r"(compress_vit_|encoder_|mask_)1\.", r"\1norm."),
    (r"(compress_vit_|encoder_|mask_)3\.", r"\1conv2."),
    (r"\.norm(\d|_final_attn)\.", r".layer_norm\1."),
    (r"(output_hypernetworks_mlps\.\d|iou_prediction_head|hq_mask_mlp)\.layers\.0\.", r"\1.proj_in."),
    (r"(output_hypernetworks_mlps\.\d|iou_prediction_head|hq_mask_mlp)\.layers\.1\.", r"\1.layers.0."),
    (r"(output_hypernetworks_mlps\.\d|iou_prediction_head|hq_mask_mlp)\.layers\.2\.", r"\1.proj_out."),
]


def from_sam_hq(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A ``sam_hq_vit_*.pth`` state dict with transformers' names; unknown names stay."""
    out = {key: value.float() for key, value in rename(state, _RULES).items()}
    fourier = "shared_image_embedding.positional_embedding"
    if fourier in out:  # transformers holds it twice
        out["prompt_encoder.shared_embedding.positional_embedding"] = out[fourier]
    return out


def load_sam_hq(path: str | Path) -> SamHQModel:
    """SAM-HQ in eval mode from ``sam_hq_vit_{b,l,h}.pth`` or a transformers folder; every key and size must fit.

    Raises:
        InputError: nothing there (with where the published ones come from), or keys and sizes that do not fit.
    """
    path = find_weights(path)
    file = weights_file(path, SAM_HINT)
    state = load_state(file)
    if path.is_dir():
        net: SamHQModel = SAMHQNetwork(_config(path, {"sam_hq": SamHQConfig}))
    else:
        width = _of(state, "image_encoder.patch_embed.proj.bias", file).shape[0]
        if width not in _TRUNKS:
            raise InputError(f"{file}: a SAM-HQ trunk of width {width}; known are {', '.join(map(str, _TRUNKS))}")
        depth, heads, whole = _TRUNKS[width]
        trunk = SamHQVisionConfig(
            hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads, global_attn_indexes=whole
        )
        net = SAMHQNetwork(SamHQConfig(vision_config=trunk, mask_decoder_config=SamHQMaskDecoderConfig(vit_dim=width)))
        state = from_sam_hq(state)
    shared = "prompt_encoder.shared_embedding.positional_embedding"
    if shared not in state and "shared_image_embedding.positional_embedding" in state:  # tied, written once
        state[shared] = state["shared_image_embedding.positional_embedding"]
    load_strict(net, {key: value.float() for key, value in state.items()}, file)
    net.eval().requires_grad_(False)
    return net


# Name in ``common_names`` -> that of transformers' ViTModel.
_VIT_RULES = [
    (r"encoder\.layer\.", "layers."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
]
_VITS: dict[str, tuple[Any, Any]] = {
    "vit": (ViTConfig, ViTModel),
    "dinov2": (Dinov2Config, Dinov2Model),
    "dinov2_with_registers": (Dinov2WithRegistersConfig, Dinov2WithRegistersModel),
}


def load_dino(path: str | Path) -> PreTrainedModel:
    """DINO (a ViT) or DINOv2 in eval mode from torch.hub's ``.pth`` or a transformers folder; every key must fit.

    Raises:
        InputError: nothing there (with where the published ones come from), or keys and sizes that do not fit.
    """
    path = find_weights(path)
    file = weights_file(path, DINO_HINT)
    inside = re.compile(r"^(vit|dinov2|dinov2_with_registers)\.")
    left_out = re.compile(r"^(pooler|classifier)\.")  # of a ViT that was saved with a head
    names = {inside.sub("", key): value for key, value in load_state(file).items()}
    state = common_names({key: value for key, value in names.items() if not left_out.match(key)})
    config = _config(path, {k: v[0] for k, v in _VITS.items()}) if path.is_dir() else _hub_config(state, file)
    if isinstance(config, ViTConfig):
        net = ViTModel(config, add_pooling_layer=False)
        state = rename(state, _VIT_RULES)
    else:
        net = _VITS[config.model_type][1](config)
    load_strict(net, state, file)
    net.eval().requires_grad_(False)
    return net


def _hub_config(state: Mapping[str, Tensor], file: Path) -> PreTrainedConfig:
    """Widths and counts of a hub file, read from its sizes; heads are 64 wide, as all of DINO's and DINOv2's."""
    kernel = _of(state, "embeddings.patch_embeddings.projection.weight", file)
    places = _of(state, "embeddings.position_embeddings", file).shape[1] - 1
    width, patch = kernel.shape[0], kernel.shape[-1]
    common = dict(
        hidden_size=width,
        num_hidden_layers=len({key.split(".")[2] for key in state if key.startswith("encoder.layer.")}),
        num_attention_heads=max(1, width // 64),
        patch_size=patch,
        image_size=round(places**0.5) * patch,
        layer_norm_eps=1e-6,
    )
    if not any("layer_scale" in key for key in state):
        return ViTConfig(intermediate_size=4 * width, **common)
    if "embeddings.register_tokens" in state:
        return Dinov2WithRegistersConfig(num_register_tokens=state["embeddings.register_tokens"].shape[1], **common)
    return Dinov2Config(**common)


def _config(folder: str | Path, kinds: Mapping[str, type[Config]]) -> Config:
    """The configuration in a transformers folder, of one of ``kinds`` by ``model_type``."""
    file = Path(folder) / "config.json"
    if not file.is_file():
        raise InputError(f"{file}: no such file; a transformers folder holds config.json next to its weights")
    content, _ = PreTrainedConfig.get_config_dict(folder, local_files_only=True)
    kind = str(content.get("model_type"))
    if kind not in kinds:
        raise InputError(f"{file}: model_type is {kind!r}; expected {' or '.join(kinds)}")
    return kinds[kind].from_dict(content)


def _of(state: Mapping[str, Tensor], key: str, file: Path) -> Tensor:
    if key not in state:
        raise InputError(f"{file}: no key {key}; is it another model's file?")
    return state[key]
