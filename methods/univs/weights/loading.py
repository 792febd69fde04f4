"""Published UniVS and Mask2Former checkpoints in detectron2's layout: names of their tensors, and what they lack."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor

from common.checkpoints import rename
from methods.univs.network.model import UniVSNetwork

PUBLISHED = (
    "the published ones are linked at github.com/MinghanLi/UniVS (Model_zoo.md) and "
    "github.com/facebookresearch/Mask2Former (MODEL_ZOO.md)"
)

_ADDED = r"\.proca\.|^language\.|^task\.|^decoder\.heads\.classes\."  # the parts that Mask2Former lacks
_QUERIES = ("decoder.query", "decoder.query_code")


def published_state(network: UniVSNetwork, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """Return a published state dict that fits the network, and whether it is only a part of it (Mask2Former's).

    The text tower is in neither: it keeps its weights (see ``load_text``). Of Mask2Former the class head is left out,
    and its queries where their number differs; ProCA, Lang2Img, text layers and task vectors keep their initial values.

    Args:
        network: the network.
        state: tensors by their published names.
    """
    own, renamed = network.state_dict(), from_published(state)
    initial = r"^text\.|\.num_batches_tracked$"
    partial = any(key.startswith("class_embed.") for key in renamed)
    if partial:
        initial = f"{initial}|{_ADDED}"
        renamed = {key: value for key, value in renamed.items() if not key.startswith("class_embed.")}
        if any(key in renamed and renamed[key].shape != own[key].shape for key in _QUERIES):
            renamed = {key: value for key, value in renamed.items() if key not in _QUERIES}
            initial = f"{initial}|^decoder\\.query"
    return {key: value for key, value in own.items() if re.search(initial, key)} | renamed, partial


def _shifted(by: int) -> Callable[[re.Match[str]], str]:
    """Return a replacement that adds ``by`` to the number in a match's second group."""
    return lambda match: f"{match[1]}{int(match[2]) + by}"


# Published name -> the network's, applied in order to every key. First, stages and layers are counted from 0, 0 and 1.
_RULES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"^(backbone\.res)(\d)", _shifted(-2)),
    (r"^(backbone\.res.*\.conv)(\d)", _shifted(-1)),
    (r"^(backbone\.norm)(\d)", _shifted(1)),
    (r"^backbone\.stem\.conv1\.", "backbone.body.embedder.embedder."),
    (r"^backbone\.res(\d)\.(\d+)\.shortcut\.", r"backbone.body.encoder.stages.\1.layers.\2.shortcut."),
    (r"^backbone\.res(\d)\.(\d+)\.conv(\d)\.", r"backbone.body.encoder.stages.\1.layers.\2.layer.\3."),
    (r"^(backbone\.body\.(?:embedder|encoder)\..*)\.norm\.(\w+)$", r"\1.normalization.\2"),
    (r"^(backbone\.body\.(?:embedder|encoder)\..*(?:embedder|shortcut|\d))\.weight$", r"\1.convolution.weight"),
    (r"^backbone\.patch_embed\.proj\.", "backbone.body.swin.embeddings.patch_embeddings.projection."),
    (r"^backbone\.patch_embed\.norm\.", "backbone.body.swin.embeddings.norm."),
    (r"^backbone\.norm(\d)\.", r"backbone.body.hidden_states_norms.stage\1."),
    (r"^backbone\.layers\.", "backbone.body.swin.encoder.layers."),
    (r"\.attn\.(q|k|v)\.", r".attention.\1_proj."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.attn\.relative_position_bias_table$", ".attention.relative_position_bias.relative_position_bias_table"),
    (r"^(backbone.*\.blocks\.\d+)\.norm1\.", r"\1.layernorm_before."),
    (r"^(backbone.*\.blocks\.\d+)\.norm2\.", r"\1.layernorm_after."),
    (r"^sem_seg_head\.pixel_decoder\.", "pixels.body."),
    (r"^pixels\.body\.input_proj\.", "pixels.body.input_projections."),
    (r"^pixels\.body\.transformer\.", "pixels.body."),
    (r"^pixels\.body\.mask_features\.", "pixels.body.mask_projection."),
    (r"^(pixels\.body\.(?:adapter|layer)_1)\.weight$", r"\1.0.weight"),
    (r"^(pixels\.body\.(?:adapter|layer)_1)\.norm\.", r"\1.1."),
    (r"^(pixels.*)\.norm1\.", r"\1.self_attn_layer_norm."),
    (r"^(pixels.*)\.norm2\.", r"\1.final_layer_norm."),
    (r"^(pixels.*)\.linear(\d)\.", r"\1.fc\2."),
    (r"^sem_seg_head\.predictor\.", ""),
    (r"^transformer_self_attention_layers\.(\d)\.(?:self_attn\.)?", r"decoder.layers.\1.exchange."),
    (r"^transformer_cross_attention_layers\.(\d)\.(?:multihead_attn\.)?", r"decoder.layers.\1.cross."),
    (r"^transformer_prompt_self_attention_layers\.(\d)\.(?:multihead_attn\.)?", r"decoder.layers.\1.proca."),
    (r"^transformer_ffn_layers\.", "decoder.layers."),
    (r"^lang2vision_cross_attention_layer\.(?:multihead_attn\.)?", "language.cross."),
    (r"^(decoder\.layers\.\d|language)\.(exchange|cross|proca)?\.?(in_proj_|out_proj\.)", r"\1.\2.attention.\3"),
    (r"^(decoder\.layers\.\d)\.(linear|norm)", r"\1.mlp.\2"),
    (r"^decoder_norm\.", "decoder.heads.norm."),
    (r"^(?:query_feat|static_query)\.weight$", "decoder.query"),
    (r"^query_embed\.weight$", "decoder.query_code"),
    (r"^level_embed\.weight$", "level"),
    (r"^mask_embed\.", "decoder.heads.mask."),
    (r"^vis2text_projection\.", "decoder.heads.classes.projection."),
    (r"^cls_temp\.weight$", "decoder.heads.classes.temperature"),
    (r"^text_norm\.", "language.norm."),
    (r"^text2vis_projection\.", "language.projection."),
    (r"^prompt_sot\.weight$", "task.visual"),
    (r"^prompt_detection\.weight$", "task.category"),
    (r"^prompt_grounding\.weight$", "task.expression"),
]
# Computed, not learned; the losses'; and what the released code keeps but never reads.
_DROPPED = r"\.relative_position_index$|^pixel_(mean|std)$|^criterion\.|\.reid_temp\.weight$"


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a published state dict with the network's names. A teacher's weights (EMA) win.

    Args:
        state: tensors by their published names; unknown names stay.
    """
    if any(key.startswith("sem_seg_head_t.") for key in state):
        heads = ("backbone_t.", "sem_seg_head_t.")
        state = {key.replace("_t.", ".", 1): value for key, value in state.items() if key.startswith(heads)}
    split: dict[str, Tensor] = {}
    for key, value in state.items():
        if re.search(_DROPPED, key):
            continue
        if ".attn.qkv." in key:
            split |= {key.replace("qkv", name): part for name, part in zip("qkv", value.chunk(3), strict=True)}
        else:
            split[key] = value
    return {key: _reshaped(key, value) for key, value in rename(split, _RULES).items()}


def _reshaped(key: str, value: Tensor) -> Tensor:
    """Return task vectors, released as (1, C), as (C,), and the temperature as a scalar."""
    if key.startswith("task."):
        return value.reshape(value.shape[-1:])
    return value.reshape(()) if key.endswith("classes.temperature") else value
