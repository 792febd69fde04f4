"""Which parts of the network a stage leaves as they are."""

from __future__ import annotations

import re

from torch import nn

from methods.univs.network.model import UniVSNetwork


def frozen_parts(core: UniVSNetwork, stages: int, pixel_decoder: bool) -> list[nn.Module]:
    """Stop training the first stages of the backbone and perhaps the pixel decoder.

    Args:
        stages: 0 = none; 4 = stem and all stages. The norms of a Swin's outputs stay trainable, as released.

    Returns:
        what must stay in eval mode.
    """
    parts: list[nn.Module] = [core.pixels] if pixel_decoder else []
    for name, module in core.backbone.named_modules():
        stage = re.search(r"\.encoder\.(?:stages|layers)\.(\d+)$", name)
        if (stage and int(stage[1]) < stages) or (stages and re.search(r"\.(embedder|embeddings)$", name)):
            parts.append(module)
    for part in parts:
        part.requires_grad_(False)
    return parts
