"""AdamW with warm-up and cosine decay, and parameter groups that scale the learning rate by layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR


def parameter_groups(
    module: nn.Module, lr: float, weight_decay: float, scale: Callable[[str], float] | None = None
) -> list[dict[str, Any]]:
    """Trainable parameters grouped by weight decay and learning rate.

    Biases, norms and other vectors or scalars are not decayed, as is usual with AdamW for transformers.

    Args:
        scale: from a parameter's name to the factor on its learning rate (layer-wise decay); None = 1 everywhere.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            factor = 1.0 if scale is None else scale(name)
            decay = 0.0 if parameter.ndim <= 1 else weight_decay
            groups.setdefault((factor, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": lr * factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]


def warmup_cosine(optimizer: Optimizer, warmup_steps: int, total_steps: float, final_fraction: float) -> LambdaLR:
    """Linear warm-up from ``1 / (warmup_steps + 1)``, then a cosine from 1 to ``final_fraction`` at ``total_steps``.

    Without an end (``total_steps`` infinite) the rate stays at 1 after the warm-up.
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        if math.isinf(total_steps):
            return 1.0
        progress = min(1.0, (step - warmup_steps) / max(1.0, total_steps - warmup_steps))
        return final_fraction + (1 - final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def adamw(
    groups: list[dict[str, Any]], lr: float, warmup_steps: int, total_steps: float, final_fraction: float
) -> dict[str, Any]:
    """What ``configure_optimizers`` returns: AdamW over ``groups`` with a rate that changes every step."""
    optimizer = AdamW(groups, lr=lr)
    schedule = warmup_cosine(optimizer, warmup_steps, total_steps, final_fraction)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
