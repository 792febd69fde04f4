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
    """Mask2Former's, from transformers, always in float32, with Mask2Former's initial values.

    Args:
        widths: channels of the backbone's maps at strides 4, 8, 16 and 32.
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
        self._initialise(self.body)

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Maps at strides 4 to 32 to mask features (F, C, H / 4, W / 4) and maps (F, C, h, w) at 32, 16 and 8."""
        with torch.autocast(maps[0].device.type, enabled=False):
            out = self.body([x.float() for x in maps], output_hidden_states=False, return_dict=True)
        coarse, middle, fine = out.multi_scale_features
        return out.mask_features, (coarse, middle, fine)

    @torch.no_grad()
    def _initialise(self, body: Any) -> None:
        """Deformable attention starts as a star of equal weights, the rest by Xavier's rule (Zhu et al., 2021)."""
        nn.init.normal_(body.level_embed)
        for parameter in body.encoder.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
        for sequence in body.input_projections:
            nn.init.xavier_uniform_(sequence[0].weight)
            nn.init.zeros_(sequence[0].bias)
        for convolution in (body.mask_projection, body.adapter_1[0], body.layer_1[0]):
            nn.init.kaiming_uniform_(convolution.weight, a=1)
        nn.init.zeros_(body.mask_projection.bias)
        for module in body.modules():
            if isinstance(module, Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention):
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
