"""The pretrained ViT: DINOv2, Depth Anything or MAE weights in one plain transformer, read after each quarter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Dinov2Config, Dinov2Model

from common.checkpoints import load_state, load_strict
from common.errors import InputError
from common.nn.vit_weights import common_names

VitSize = Literal["nano", "small", "base", "large", "mae-base"]
# Width, number of blocks, heads, side of the position table in tokens.
SIZES: dict[VitSize, tuple[int, int, int, int]] = {
    "nano": (96, 4, 4, 8),
    "small": (384, 12, 6, 37),
    "base": (768, 12, 12, 37),
    "large": (1024, 24, 16, 37),
    "mae-base": (768, 12, 12, 14),
}
PATCH, GROUPS = 16, 4


class ViT(nn.Module):
    """A ViT that returns its tokens after each of four groups of blocks, without the final norm.

    It is transformers' DINOv2, which with layer scales of 1 is also the ViT of MAE.

    Args:
        size: width and depth; ``mae-base`` has MAE's smaller position table.
        frozen: parameters need no gradient, and the module is always in eval mode.

    Attributes:
        width: channels of the tokens.
        heads: attention heads of a block.
    """

    def __init__(self, size: VitSize = "base", frozen: bool = True) -> None:
        super().__init__()
        self.width, depth, self.heads, side = SIZES[size]
        config = Dinov2Config(
            hidden_size=self.width,
            num_hidden_layers=depth,
            num_attention_heads=self.heads,
            patch_size=PATCH,
            image_size=PATCH * side,
            use_mask_token=False,
        )
        self.model, self.frozen, self.group = Dinov2Model(config), frozen, depth // GROUPS
        self.model.layernorm = nn.Identity()  # type: ignore[assignment]
        if frozen:
            self.requires_grad_(False)
            self.train(False)

    def train(self, mode: bool = True) -> ViT:
        """Set the training mode, unless frozen."""
        return super().train(mode and not self.frozen)

    def forward(self, image: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Encode images.

        Args:
            image: float (B, 3, H, W), normalised; H and W are multiples of 16.

        Returns:
            Tokens (B, h w, C) and CLS (B, C) after each of the four groups.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            x, groups = self.embed(image), []
            for group in range(GROUPS):
                x = self.run(x, group)
                groups.append((x[:, 1:], x[:, 0]))
        return groups

    def embed(self, image: Tensor) -> Tensor:
        """Embed patches and positions, the input of the first group: (B, 1 + h w, C), CLS first."""
        embedded: Tensor = self.model.embeddings(image)
        return embedded

    def run(self, x: Tensor, group: int) -> Tensor:
        """Pass tokens (B, 1 + h w, C) through a group of blocks; gradients pass through a frozen group to its input.

        Args:
            x: CLS first.
            group: 0 to 3.
        """
        for block in self.model.encoder.layer[group * self.group : (group + 1) * self.group]:
            x = block(x)
        return x


_PREFIX = re.compile(r"^(backbone|vit|pretrained)\.")
# Of other tasks, or after the last block.
_LEFT_OUT = re.compile(
    r"^(neck|head|depth_head|decoder|decoder_.*|mask_token|norm|layernorm|"
    r"(backbone|vit|pretrained)\.(norm|layernorm|mask_token|embeddings\.mask_token)|embeddings\.mask_token)(\.|$)"
)


def from_published(state: Mapping[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """A published state dict with the model's names; unknown names stay.

    Joint query-key-value matrices are split, patch kernels resized to 16 x 16, missing layer scales (MAE) are 1.
    """
    out = common_names({_PREFIX.sub("", key): value for key, value in state.items() if not _LEFT_OUT.match(key)})
    kernel = "embeddings.patch_embeddings.projection.weight"
    if kernel in out and out[kernel].shape[-1] != PATCH:
        out[kernel] = F.interpolate(out[kernel], (PATCH, PATCH), mode="bilinear", align_corners=True)
    width = out["embeddings.cls_token"].shape[-1] if "embeddings.cls_token" in out else 0
    scales = [f"encoder.layer.{block}.layer_scale{i}.lambda1" for block in range(blocks) for i in (1, 2)]
    if not any(scale in out for scale in scales):
        out |= {scale: torch.ones(width) for scale in scales}
    return out


def load_vit(vit: ViT, path: str | Path) -> Path:
    """Load DINOv2, Depth Anything or MAE weights: a transformers folder, or a file of theirs or of the first release.

    Returns:
        The file that was read.

    Raises:
        InputError: nothing there, or keys and sizes that do not fit, by name.
    """
    path = Path(path)
    if path.is_dir():
        files = [path / name for name in ("model.safetensors", "pytorch_model.bin") if (path / name).is_file()]
        if not files:
            raise InputError(f"{path}: no model.safetensors or pytorch_model.bin in this folder")
        path = files[0]
    elif not path.is_file():
        raise InputError(
            f"{path}: no such ViT weights; put Depth Anything, DINOv2 or MAE on disk (a transformers folder such as "
            "LiheYoung/depth-anything-base-hf, or the released file) and give its path"
        )
    load_strict(vit.model, from_published(load_state(path), len(vit.model.encoder.layer)), path)
    return path
