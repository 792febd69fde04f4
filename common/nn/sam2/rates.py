"""Layer-wise learning rates of the image encoder, as SAM 2 is fine-tuned."""

from __future__ import annotations

import re
from collections.abc import Callable

from common.nn.sam2.model import SAM2


def encoder_rates(core: SAM2, encoder_lr: float, layer_decay: float) -> Callable[[str], float]:
    """Factor on a parameter's learning rate by its name, for ``optim.parameter_groups``.

    Lower for the image encoder, the lower the nearer to the input; position tables are not decayed so.

    Args:
        core: the model.
        encoder_lr: factor of the whole image encoder.
        layer_decay: factor per trunk block towards the input.
    """
    blocks = len(core.net.vision_encoder.backbone.blocks)

    def rate(name: str) -> float:
        if ".vision_encoder." not in name:
            return 1.0
        if "backbone" not in name or "pos_embed" in name:
            return encoder_lr
        block = re.search(r"\.blocks\.(\d+)\.", name)
        depth = int(block[1]) + 1 if block else 0
        return encoder_lr * layer_decay ** (blocks + 1 - depth)

    return rate
