"""Weights of a CLIP text tower: transformers' layout, or CLIP's own (RegionCLIP's language encoder among them)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from common.checkpoints import load_state, load_strict, rename, weights_file
from methods.univs.network.text_tower import TextTower

PUBLISHED = "UniVS uses RegionCLIP's text tower (github.com/microsoft/RegionCLIP, regionclip_pretrained-cc_rn50x4.pth)"
_RULES = [
    (r"^token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"^transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"\.ln_(\d)\.", r".layer_norm\1."),
    (r"\.attn\.(\w)\.", r".self_attn.\1_proj."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"^ln_final\.", "text_model.final_layer_norm."),
]
# The image side of a whole CLIP, and tables.
_OTHER = (
    r"^(visual|vision_model|visual_projection)\.|position_ids$"
    r"|^(logit_scale|context_length|vocab_size|input_resolution)$"
)


def from_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a CLIP state dict with transformers' names, without the image side.

    Args:
        state: tensors by CLIP's own names or transformers'; unknown names stay.
    """
    prefix = "lang_encoder."  # of a whole RegionCLIP
    if any(key.startswith(prefix) for key in state):
        state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    split: dict[str, Tensor] = {}
    for key, value in state.items():
        if ".attn.in_proj_" in key:
            split |= {key.replace("in_proj_", f"{n}."): x for n, x in zip("qkv", value.chunk(3), strict=True)}
        else:
            split[key] = value
    out = {key: value for key, value in rename(split, _RULES).items() if not re.search(_OTHER, key)}
    if "text_projection" in out:
        out["text_projection.weight"] = out.pop("text_projection").T
    return out


def load_text(tower: TextTower, path: str | Path) -> Path:
    """Load a text tower from a file, or from a transformers folder; every key and size must fit.

    Args:
        tower: the text tower.
        path: the file or folder.

    Returns:
        The file that was read.

    Raises:
        InputError: no such file, or keys that do not fit.
    """
    file = weights_file(path, PUBLISHED)
    load_strict(tower, {f"body.{key}": value for key, value in from_clip(load_state(file)).items()}, file)
    return file
