"""Layer-wise learning rates of the image encoder, as in SAM 2's fine-tuning recipe."""

from __future__ import annotations

import re
from collections.abc import Callable

from common.nn.sam2.model import SAM2


def encoder_rates(sam2: SAM2, encoder_lr: float, layer_decay: float) -> Callable[[str], float]:
    """Return a function from a parameter's name to the factor on its learning rate, for ``optim.parameter_groups``.

    The factor is 1 outside of the image encoder. Inside it falls from block to block towards the input; position tables
    keep the factor of the whole encoder.

    Args:
        sam2: the model.
        encoder_lr: factor of the whole image encoder.
        layer_decay: factor per trunk block towards the input.
    """
    blocks = len(sam2.net.vision_encoder.backbone.blocks)

    def rate(name: str) -> float:
        if ".vision_encoder." not in name:
            return 1.0
        if "backbone" not in name or "pos_embed" in name:
            return encoder_lr
        block = re.search(r"\.blocks\.(\d+)\.", name)
        depth = int(block[1]) + 1 if block else 0
        return encoder_lr * layer_decay ** (blocks + 1 - depth)

    return rate
