"""A small seeded SAM 2 whose untrained answers are worth comparing: objects seen, masks neither empty nor full."""

from __future__ import annotations

import torch
from torch import nn

from common.nn.sam2 import SAM2


def enliven(model: nn.Module, seed: int = 0, visible: float = 4.0, iou: float = 0.0, head: float = 1.0) -> None:
    """Random values of unit gain for every matrix and filter; vectors keep their initial values.

    Args:
        seed: chooses the values.
        visible: added to the occlusion score; over 2 almost every frame is certain.
        iou: added to the logit of the predicted IoU.
        head: gain of the last matrices of both: how much they move from frame to frame.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim > 1 and "norm" not in name:
                fan = value[0].numel() if value.ndim > 2 or "embed" not in name else value.shape[-1]
                gain = head if name.endswith(("score_head.proj_out.weight", "prediction_head.proj_out.weight")) else 1.0
                value.copy_(torch.randn(value.shape, generator=generator) * gain / fan**0.5)
            elif name.endswith("pred_obj_score_head.proj_out.bias"):
                value += visible
            elif name.endswith("iou_prediction_head.proj_out.bias"):
                value += iou


def lively_sam2(version: str = "2.1", image_size: int = 64, size: str = "nano", **how: float) -> SAM2:
    """A core on a small image, in eval mode; see ``enliven``."""
    model = SAM2(size, version, image_size).eval()
    enliven(model, **how)  # type: ignore[arg-type]
    return model
