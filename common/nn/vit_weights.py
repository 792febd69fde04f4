"""Published plain ViTs under one set of names: torch.hub's, timm's and MAE's, and transformers' old and new files."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from common.checkpoints import rename

# Published name -> that of transformers' Dinov2Model, applied in order to every key.
_RULES = [
    (r"^layers\.", "encoder.layer."),
    (r"^blocks\.", "encoder.layer."),
    (r"^(cls_token|mask_token|register_tokens)$", r"embeddings.\1"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"\.(attention\.)?attention\.query\.", ".attention.q_proj."),
    (r"\.(attention\.)?attention\.key\.", ".attention.k_proj."),
    (r"\.(attention\.)?attention\.value\.", ".attention.v_proj."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(layer\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),
]


def common_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a ViT's state dict in float32 with the names of transformers' ``Dinov2Model``; unknown names stay.

    Joint query-key-value matrices are split into thirds.

    Args:
        state: tensors by their published names.
    """
    out: dict[str, Tensor] = {}
    for key, value in rename(state, _RULES).items():
        if ".attn.qkv." in key:
            for part, third in zip("qkv", value.chunk(3), strict=True):
                out[key.replace(".attn.qkv.", f".attention.{part}_proj.")] = third.float()
        else:
            out[key] = value.float()
    return out
