"""Weights of the base tracker: released DeAOT and RMem checkpoints, ImageNet trunks, and our own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from common.checkpoints import load_state, load_strict
from common.errors import InputError
from common.nn.resnet import load_imagenet
from methods.hqsmem.deaot.encoders import ResNetEncoder, SwinEncoder
from methods.hqsmem.deaot.network import DeAOT

OURS = "net."  # where the network lies in a Lightning checkpoint
HINT = (
    "the released ones (*_PRE_YTB_DAV.pth) are linked at github.com/yoxu515/aot-benchmark, MODEL_ZOO.md; put one on "
    "disk and give its path"
)

# Released name -> ours, applied in order to every key.
_RENAME = [
    (r"^module\.", ""),
    (r"^encoder\.(conv1|bn1|layer\d)\.", r"encoder.trunk.\1."),
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


def rename(key: str) -> str:
    """Our name of a released key; an unknown one stays as it is."""
    if key.removeprefix("module.").startswith("encoder."):
        return re.sub(_RENAME[1][0], _RENAME[1][1], key.removeprefix("module."))
    for pattern, name in _RENAME:
        key = re.sub(pattern, name, key)
    return key


def from_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released state dict with our names; 1x1 convolutions over tokens become matrices."""
    renamed = {rename(key): value for key, value in state.items()}
    return {key: value.flatten(1) if key.endswith(".relative.weight") else value for key, value in renamed.items()}


def load_released(net: DeAOT, path: str | Path) -> Path:
    """Load a released DeAOT checkpoint, or RMem's with temporal embedding; every key and size must fit.

    Returns:
        The file that was read.

    Raises:
        InputError: no such file (with where the released ones come from), AOT's attention, or keys that do not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weights; {HINT}")
    state = load_state(path)
    if any("linear_Q." in key for key in state):
        raise InputError(f"{path}: is of AOT, whose attention is another; give a DeAOT checkpoint")
    load_strict(net, _with_counters(net, from_released(state)), path)
    return path


def load_weights(net: DeAOT, path: str | Path) -> Path:
    """Load a released checkpoint or one of ours (``.ckpt``, ``.safetensors``); every key and size must fit.

    Returns:
        The file that was read.

    Raises:
        InputError: no such file, or keys that do not fit, by name.
    """
    path = Path(path)
    state = load_state(path) if path.is_file() else {}
    own = {key.removeprefix(OURS): value for key, value in state.items() if key.startswith(OURS)}
    if not own:
        return load_released(net, path)
    load_strict(net, own, path)
    return path


def load_start(net: DeAOT, path: str | Path) -> None:
    """Load what a training starts from: a whole checkpoint, or an ImageNet file of the encoder (``load_trunk``).

    Temporal positions that a checkpoint lacks stay as they are; all else must fit.

    Raises:
        InputError: no such file, or keys that do not fit.
    """
    state = load_state(path)
    own = {key.removeprefix(OURS): value for key, value in state.items() if key.startswith(OURS)}
    if any(rename(key).startswith("layers.0.key_value.") for key in state):
        own = _with_counters(net, from_released(state))
    if not own:
        load_trunk(net, path)
        return
    positions = {key: value for key, value in net.state_dict().items() if key in ("query_time", "memory_time")}
    load_strict(net, {**positions, **own}, path)


def load_trunk(net: DeAOT, path: str | Path) -> None:
    """Load an ImageNet file into the encoder, to train from: torchvision's MobileNetV2 or ResNet-50, or Swin-B.

    The classifier and the stages that DeAOT lacks are left out; Swin's norms of the outputs, not in the file, stay.

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
    load_strict(encoder, _with_counters(encoder, state), path)


def _with_counters(module: torch.nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """With the batch counters of norms that are constants, which released files lack."""
    counters = {k: v for k, v in module.state_dict().items() if k.endswith("num_batches_tracked")}
    return {**counters, **state}
