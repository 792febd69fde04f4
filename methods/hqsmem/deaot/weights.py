"""Weights of the base tracker: released DeAOT and RMem checkpoints, and ImageNet trunks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from common.checkpoints import PREFIX, load_state, load_strict, rename, weights_file, with_counters
from common.errors import InputError
from common.nn.resnet import load_imagenet
from methods.hqsmem.deaot.encoders import ResNetEncoder, SwinEncoder
from methods.hqsmem.deaot.network import DeAOT

PUBLISHED = "the released ones (*_PRE_YTB_DAV.pth) are linked at github.com/yoxu515/aot-benchmark, MODEL_ZOO.md"

_ENCODER_RULES = [(r"^encoder\.(conv1|bn1|layer\d)\.", r"encoder.trunk.\1.")]
# Released name -> the network's, applied in order to every key but the encoder's.
_RULES = [
    (r"^encoder_projector\.", "project."),
    (r"^patch_wise_id_bank\.", "id_bank."),
    (r"^cur_pos_emb$", "query_time"),
    (r"^mem_pos_emb$", "memory_time"),
    (r"^LSTT\.decoder_norms\.0\.gn\.", "last_norm."),
    (r"^LSTT\.layers\.", "layers."),
    (r"\.norm1\.", ".norm."),
    (r"\.norm2\.", ".self_norm."),
    (r"\.id_norm1\.", ".id_norm."),
    (r"\.id_norm2\.", ".self_id_norm."),
    (r"\.linear_QV\.", ".key_value."),
    (r"\.linear_U\.", ".gate."),
    (r"\.linear_ID_V\.", ".id_value."),
    (r"\.linear_ID_U\.", ".id_gate."),
    (r"\.short_term_attn\.relative_emb_k\.", ".relative."),
    (r"\.long_term_attn\.", ".long."),
    (r"\.short_term_attn\.", ".short."),
    (r"\.self_attn\.linear_QK\.", ".self_propagation.query."),
    (r"\.self_attn\.linear_V1\.", ".self_propagation.value."),
    (r"\.self_attn\.linear_V2\.", ".self_propagation.id_value."),
    (r"\.self_attn\.linear_U1\.", ".self_propagation.gate."),
    (r"\.self_attn\.linear_U2\.", ".self_propagation.id_gate."),
    (r"\.self_attn\.", ".self_propagation.mix."),
    (r"\.dw_conv\.conv\.", ".conv."),
    (r"\.projection\.", ".project."),
    (r"^decoder\.conv_in\.", "decoder.enter."),
    (r"^decoder\.conv_(\d+)x\.", r"decoder.at\1."),
    (r"^decoder\.adapter_(\d+)x\.", r"decoder.skip\1."),
    (r"^decoder\.conv_out\.", "decoder.predict."),
    (r"^(decoder\.\w+)\.gn\.", r"\1.norm."),
]


def from_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a released state dict with the network's names; 1x1 convolutions over tokens become matrices.

    Args:
        state: tensors by their released names; unknown names stay.
    """
    state = rename(state, [(r"^module\.", "")])
    encoder = {key: value for key, value in state.items() if key.startswith("encoder.")}
    others = {key: value for key, value in state.items() if key not in encoder}
    renamed = rename(encoder, _ENCODER_RULES) | rename(others, _RULES)
    return {key: value.flatten(1) if key.endswith(".relative.weight") else value for key, value in renamed.items()}


def released_state(network: DeAOT, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return a released DeAOT state dict, or RMem's with temporal embedding, that fits the network.

    Args:
        network: the network.
        state: tensors by their released names.
        path: the file, for messages.

    Raises:
        InputError: a checkpoint of AOT, whose attention is another.
    """
    if any("linear_Q." in key for key in state):
        raise InputError(f"{path}: is of AOT, whose attention is another; give a DeAOT checkpoint")
    return with_counters(network, from_released(state))


def load_start(net: DeAOT, path: str | Path) -> None:
    """Load the start of a training: a whole checkpoint, or an ImageNet file of the encoder (``load_trunk``).

    Temporal positions that a checkpoint lacks stay as they are; all else must fit.

    Args:
        net: the network.
        path: the file.

    Raises:
        InputError: no such file, or keys that do not fit.
    """
    file = weights_file(path)
    state = {key.removeprefix(PREFIX): value for key, value in load_state(file).items()}
    if any(".LSTT." in f".{key}" for key in state):
        state = released_state(net, state, file)
    elif not state.keys() & net.state_dict().keys():
        load_trunk(net, file)
        return
    positions = {key: value for key, value in net.state_dict().items() if key in ("query_time", "memory_time")}
    load_strict(net, {**positions, **state}, file)


def load_trunk(net: DeAOT, path: str | Path) -> None:
    """Load an ImageNet file into the encoder, to train from: torchvision's MobileNetV2 or ResNet-50, or Swin-B.

    The classifier and the stages that DeAOT lacks are left out; Swin's norms of the outputs, not in the file, stay.

    Args:
        net: the network.
        path: the file.

    Raises:
        InputError: no such file, or keys that do not fit.
    """
    encoder = net.encoder
    if isinstance(encoder, ResNetEncoder):
        load_imagenet(encoder.trunk, path)
        return
    state = load_state(path)
    if isinstance(encoder, SwinEncoder):
        dropped = ("layers.3.", "layers.2.downsample.", "norm.", "head.")
        state = {k: v for k, v in state.items() if not k.startswith(dropped) and not k.endswith("attn_mask")}
        norms = {k: v for k, v in encoder.state_dict().items() if re.match(r"norm\d\.", k)}
        load_strict(encoder, {**norms, **state}, path)
        return
    state = {k: v for k, v in state.items() if not k.startswith("classifier.")}
    load_strict(encoder, with_counters(encoder, state), path)
