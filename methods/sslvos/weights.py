"""Published Cutie checkpoints (``cutie-base-mega.pth``, ``cutie-small-mega.pth``)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from common.checkpoints import rename
from methods.sslvos.cutie.core import SSLVOSNetwork

PUBLISHED = "Cutie's are linked at github.com/hkchengrex/Cutie (cutie-base-mega.pth, cutie-small-mega.pth)"

# Published name -> ours, applied in order to every key.
_RULES = [
    (r"^pixel_encoder\.res2\.", "encoder.trunk.layer1."),
    (r"^pixel_encoder\.", "encoder.trunk."),
    (r"^pix_feat_proj\.", "pixel_proj."),
    (r"^key_proj\.pix_feat_proj\.", "key_proj.reduce."),
    (r"^key_proj\.key_proj\.", "key_proj.key."),
    (r"^key_proj\.d_proj\.", "key_proj.shrinkage."),
    (r"^key_proj\.e_proj\.", "key_proj.selection."),
    (r"^mask_encoder\.(conv1|bn1|layer\d)\.", r"mask_encoder.trunk.\1."),
    (r"^mask_encoder\.sensory_update\.transform\.", "mask_encoder.deep.gates."),
    (r"^pixel_fuser\.sensory_compress\.", "fuser.sensory."),
    (r"^pixel_fuser\.", "fuser."),
    (r"\.fuser\.distributor\.x_transform\.", ".fusion.shared."),
    (r"\.fuser\.distributor\.g_transform\.", ".fusion.own."),
    (r"\.fuser\.block1\.", ".fusion.refine.0."),
    (r"\.fuser\.block2\.", ".fusion.refine.1."),
    (r"^fuser\.fuser\.", "fuser.fusion."),
    (r"^mask_decoder\.sensory_update\.g16_conv\.", "decoder.sensory.inputs.0."),
    (r"^mask_decoder\.sensory_update\.g8_conv\.", "decoder.sensory.inputs.1."),
    (r"^mask_decoder\.sensory_update\.g4_conv\.", "decoder.sensory.inputs.2."),
    (r"^mask_decoder\.sensory_update\.transform\.", "decoder.sensory.recurrence.gates."),
    (r"^mask_decoder\.decoder_feat_proc\.transforms\.0\.", "decoder.skip8."),
    (r"^mask_decoder\.decoder_feat_proc\.transforms\.1\.", "decoder.skip4."),
    (r"^mask_decoder\.up_16_8\.out_conv\.", "decoder.up8."),
    (r"^mask_decoder\.up_8_4\.out_conv\.", "decoder.up4."),
    (r"^(decoder\.up\d)\.downsample\.", r"\1.skip."),
    (r"^mask_decoder\.pred\.", "decoder.predict."),
    (r"^object_summarizer\.input_proj\.", "summary.input."),
    (r"^object_summarizer\.feature_pred\.", "summary.feature."),
    (r"^object_summarizer\.weights_pred\.", "summary.weight."),
    (r"^aux_computer\.sensory_aux\.projection\.", "sensory_head."),
    (r"^object_transformer\.", "transformer."),
    (r"^transformer\.query_init\.weight$", "transformer.query_init"),
    (r"^transformer\.query_emb\.weight$", "transformer.query_pe"),
    (r"^transformer\.summary_to_query_init\.", "transformer.memory_init."),
    (r"^transformer\.summary_to_query_emb\.", "transformer.memory_pe."),
    (r"^transformer\.pixel_init_proj\.", "transformer.pixel_init."),
    (r"^transformer\.pixel_emb_proj\.", "transformer.pixel_pe."),
    (r"^transformer\.mask_pred\.(\d+)\.1\.", r"transformer.heads.\1."),
    (r"\.read_from_pixel\.cross_attn\.", ".read.attention."),
    (r"\.read_from_pixel\.", ".read."),
    (r"\.self_attn\.norm\.", ".norm."),
    (r"\.self_attn\.self_attn\.", ".exchange."),
    (r"\.ffn\.", ".mlp."),
    (r"\.read_from_query\.cross_attn\.", ".write."),
    (r"\.pixel_ffn\.conv\.(conv\d?)\.", r".pixel_mlp.\1."),
]
_TABLES = ("object_transformer.spatial_pe.inv_freq", "object_summarizer.pos_enc.inv_freq")  # computed, not learned
_SINGLE = ("mask_encoder.trunk.conv1.weight", "fuser.sensory.weight")


def from_cutie(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a published state dict with the network's names (527 entries of the base model become 525).

    Args:
        state: tensors by their published names; unknown names stay.
    """
    return rename({key: value for key, value in state.items() if key not in _TABLES}, _RULES)


def cutie_state(network: SSLVOSNetwork, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a published state dict that fits the network.

    Weights of single-object pre-training lack the channel of the other targets' masks; it starts at zero.

    Args:
        network: the network.
        state: tensors by their published names.
    """
    renamed, wanted = from_cutie(state), network.state_dict()
    for key in _SINGLE:
        value = renamed.get(key)
        if value is not None and value.ndim == 4 and value.shape[1] == wanted[key].shape[1] - 1:
            renamed[key] = torch.cat([value, torch.zeros_like(value[:, :1])], 1)
    return renamed
