"""Image backbones of transformers: ResNet and Swin, maps at strides 4, 8, 16 and 32."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import ResNetBackbone, ResNetConfig, SwinBackbone, SwinConfig

from methods.univs.settings import Backbone

_MAPS: dict[str, Any] = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
# channels of the first stage, depths, heads, window
_SWIN = {
    "swin-tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
    "swin-base": (128, (2, 2, 18, 2), (4, 8, 16, 32), 12),
    "swin-large": (192, (2, 2, 18, 2), (6, 12, 24, 48), 12),
}
_DROP_PATH = 0.3


class ImageBackbone(nn.Module):
    """Four maps of an image.

    ResNet-50 has its stride in the 3x3 convolution and frozen batch norms: statistics and affine parameters stay as
    loaded. Those of ``nano``, which starts from nothing, are trained.

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
            self.body.swin.register_module(
                "layernorm", nn.Identity()
            )  # of the classifier: the four maps have their own norms
        elif kind == "nano":
            sizes = dict(embedding_size=24, hidden_sizes=(24, 48, 96, 160), depths=(1, 1, 2, 1))
            self.body = ResNetBackbone(ResNetConfig(**sizes, layer_type="basic", **_MAPS))
        else:
            self.body = ResNetBackbone(ResNetConfig(**_MAPS))
        self.widths = tuple(self.body.channels)
        self.frozen_norm = kind == "resnet50"
        if self.frozen_norm:
            for norm in self._norms():
                norm.requires_grad_(False)
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalised images (F, 3, H, W) to maps (F, widths[i], H / stride, W / stride)."""
        return tuple(self.body(images).feature_maps)

    def train(self, mode: bool = True) -> ImageBackbone:
        """Training mode; frozen batch norms stay as they are in eval mode."""
        super().train(mode)
        if self.frozen_norm:
            for norm in self._norms():
                norm.eval()
        return self

    def _norms(self) -> list[nn.BatchNorm2d]:
        return [module for module in self.body.modules() if isinstance(module, nn.BatchNorm2d)]
