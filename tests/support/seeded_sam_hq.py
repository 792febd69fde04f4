"""SAM-HQ networks with seeded weights, for the comparison with the released program."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from transformers import SamHQConfig
from transformers.models.sam_hq.configuration_sam_hq import (
    SamHQMaskDecoderConfig,
    SamHQPromptEncoderConfig,
    SamHQVisionConfig,
)

from methods.hqsmem.refinement.mask_decoder import SAMHQNetwork


class Sizes(NamedTuple):
    """Side of the input; width, blocks and heads of the trunk; its blocks with global attention."""

    side: int
    width: int
    depth: int
    heads: int
    whole: tuple[int, ...]


BASE = Sizes(1024, 768, 12, 12, (2, 5, 8, 11))
SMALL = Sizes(128, 32, 2, 2, (0, 1))


def build(sizes: Sizes) -> SAMHQNetwork:
    """A network as published but for its sizes, in eval mode."""
    trunk = SamHQVisionConfig(
        hidden_size=sizes.width,
        num_hidden_layers=sizes.depth,
        num_attention_heads=sizes.heads,
        global_attn_indexes=sizes.whole,
        image_size=sizes.side,
    )
    config = SamHQConfig(
        vision_config=trunk,
        prompt_encoder_config=SamHQPromptEncoderConfig(image_size=sizes.side),
        mask_decoder_config=SamHQMaskDecoderConfig(vit_dim=sizes.width),
    )
    return SAMHQNetwork(config).eval()


@torch.no_grad()
def seed(network: SAMHQNetwork) -> None:
    """Set every tensor to values drawn in the order of the names: norms near 1, the rest small."""
    generator = torch.Generator().manual_seed(4)
    shared = "prompt_encoder.shared_embedding.positional_embedding"
    state = network.state_dict()
    for name in sorted(state):
        if name != shared:
            norm = "norm" in name and name.endswith("weight")
            draw = torch.randn(state[name].shape, generator=generator)
            state[name].copy_(1 + 0.05 * draw if norm else (0.06 if draw.ndim > 1 else 0.1) * draw)
    state["shared_image_embedding.positional_embedding"].mul_(10)
    state[shared].copy_(state["shared_image_embedding.positional_embedding"])


def prompts(sizes: Sizes) -> tuple[Tensor, Tensor]:
    """An image (1, 3, S, S) as after preprocessing, and three boxes (3, 4) in its pixels."""
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    image = torch.nn.functional.interpolate(image, (sizes.side, sizes.side), mode="bilinear")
    boxes = torch.tensor([[0.1, 0.2, 0.6, 0.7], [0.3, 0.1, 0.9, 0.5], [0.0, 0.5, 0.4, 1.0]]) * sizes.side
    return image, boxes
