"""Image backbones from transformers: ResNet and Swin, with feature maps at strides 4, 8, 16 and 32."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn
from transformers import ResNetBackbone, ResNetConfig, SwinBackbone, SwinConfig

from common.nn.frozen_norm import FrozenNormModule, batch_norms
from methods.univs.settings import Backbone

_MAPS: dict[str, Any] = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
# channels of the first stage, depths, heads, window
_SWIN = {
    "swin-tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
    "swin-base": (128, (2, 2, 18, 2), (4, 8, 16, 32), 12),
    "swin-large": (192, (2, 2, 18, 2), (6, 12, 24, 48), 12),
}
_DROP_PATH = 0.3


class ImageBackbone(FrozenNormModule):
    """Four feature maps of an image.

    ResNet-50 has its stride in the 3x3 convolution and frozen batch norms: statistics and affine parameters stay as
    loaded. The batch norms of ``nano``, which has no pretrained weights, are trained.

    Args:
        kind: which backbone.

    Attributes:
        widths: channels of the maps at strides 4, 8, 16 and 32.
    """

    def __init__(self, kind: Backbone) -> None:
        super().__init__()
        self.body: SwinBackbone | ResNetBackbone
        sizes: dict[str, Any]
        if kind in _SWIN:
            width, depths, heads, window = _SWIN[kind]
            sizes = dict(embed_dim=width, depths=depths, num_heads=heads, window_size=window)
            self.body = SwinBackbone(SwinConfig(**sizes, drop_path_rate=_DROP_PATH, **_MAPS))
            # the norm before the classifier, which is not used: each of the four maps has a norm of its own
            self.body.swin.register_module("layernorm", nn.Identity())
        elif kind == "nano":
            sizes = dict(embedding_size=24, hidden_sizes=(24, 48, 96, 160), depths=(1, 1, 2, 1))
            self.body = ResNetBackbone(ResNetConfig(**sizes, layer_type="basic", **_MAPS))
        else:
            self.body = ResNetBackbone(ResNetConfig(**_MAPS))
        self.widths = tuple(self.body.channels)
        self.frozen_norm = kind == "resnet50"
        if self.frozen_norm:
            for norm in batch_norms(self.body):
                norm.requires_grad_(False)
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return four maps (M, widths[i], H / stride, W / stride) of normalised images (M, 3, H, W)."""
        return tuple(self.body(images).feature_maps)

    def freeze(self, stages: int) -> list[nn.Module]:
        """Freeze the stem and the first stages, and return the frozen modules.

        Args:
            stages: 0 = freeze nothing; 4 = stem and all stages. The norms of a Swin's outputs stay trainable, as
                released.
        """
        parts: list[nn.Module] = []
        for name, module in self.named_modules():
            stage = re.search(r"\.encoder\.(?:stages|layers)\.(\d+)$", name)
            if (stage and int(stage[1]) < stages) or (stages and re.search(r"\.(embedder|embeddings)$", name)):
                parts.append(module)
        for part in parts:
            part.requires_grad_(False)
        return parts
