"""The pixel decoder: multi-scale deformable attention over strides 32, 16 and 8, and a step to stride 4."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoder,
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention,
)

from methods.univs.settings import UniVSSettings


class PixelDecoder(nn.Module):
    """Mask2Former's pixel decoder, from transformers, always in float32, with Mask2Former's initialisation.

    Args:
        widths: channels of the backbone's maps at strides 4, 8, 16 and 32.
        settings: sizes.
    """

    def __init__(self, widths: tuple[int, ...], settings: UniVSSettings) -> None:
        super().__init__()
        config = Mask2FormerConfig(
            feature_size=settings.hidden,
            mask_feature_size=settings.hidden,
            hidden_dim=settings.hidden,
            encoder_feedforward_dim=settings.encoder_feedforward,
            encoder_layers=settings.encoder_layers,
            num_attention_heads=settings.heads,
        )
        self.body = Mask2FormerPixelDecoder(config, widths)
        _initialise(self.body)

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Return mask features (M, C, H / 4, W / 4), and maps (M, C, h, w) at strides 32, 16 and 8.

        Args:
            maps: the backbone's maps at strides 4 to 32.
        """
        with torch.autocast(maps[0].device.type, enabled=False):
            out = self.body([x.float() for x in maps], output_hidden_states=False, return_dict=True)
        coarse, middle, fine = out.multi_scale_features
        return out.mask_features, (coarse, middle, fine)


@torch.no_grad()
def _initialise(body: Mask2FormerPixelDecoder) -> None:
    """Initialise deformable attention as a star of equal weights, and the rest by Xavier's rule (Zhu et al., 2021)."""
    parts: Any = body  # its submodules have no types
    nn.init.normal_(parts.level_embed)
    for parameter in parts.encoder.parameters():
        if parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter)
    for sequence in parts.input_projections:
        nn.init.xavier_uniform_(sequence[0].weight)
        nn.init.zeros_(sequence[0].bias)
    for convolution in (parts.mask_projection, parts.adapter_1[0], parts.layer_1[0]):
        nn.init.kaiming_uniform_(convolution.weight, a=1)
    nn.init.zeros_(parts.mask_projection.bias)
    for module in body.modules():
        if isinstance(module, Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention):
            # each head looks in a direction of its own, and its points lie at 1, 2, ... cells in that direction
            angle = torch.arange(module.n_heads) * (2 * math.pi / module.n_heads)
            ray = torch.stack([angle.cos(), angle.sin()], -1)
            ray = ray / ray.abs().amax(-1, keepdim=True)
            steps = torch.arange(1, module.n_points + 1)
            star = ray[:, None, None] * steps[:, None]
            nn.init.zeros_(module.sampling_offsets.weight)
            module.sampling_offsets.bias.copy_(star.expand(-1, module.n_levels, -1, -1).flatten())
            for layer in (module.attention_weights, module.value_proj, module.output_proj):
                nn.init.zeros_(layer.bias)
            nn.init.zeros_(module.attention_weights.weight)
