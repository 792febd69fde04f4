"""AdamW, its parameter groups, and the schedules of the learning rate."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

Decay = Literal["cosine", "milestones", "poly"]


def parameter_groups(
    module: nn.Module,
    lr: float,
    weight_decay: float,
    scale: Callable[[str], float] | None = None,
    undecayed: str | None = None,
    part: Callable[[str], str] | None = None,
) -> list[dict[str, Any]]:
    """Return the trainable parameters grouped by learning rate and weight decay.

    Biases, norms and other vectors or scalars are not decayed, as is usual with AdamW for transformers.

    Args:
        module: the module that is trained.
        lr: peak learning rate.
        weight_decay: decay of matrices and filters.
        scale: from a parameter's name to the factor on its learning rate (layer-wise decay); None = 1 everywhere.
        undecayed: regular expression of names that are not decayed either, e.g. of embeddings.
        part: from a parameter's name to that of its part; each part has groups of its own, under the key ``part``.
    """
    groups: dict[tuple[str, float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            flat = parameter.ndim <= 1 or (undecayed is not None and re.search(undecayed, name))
            key = (part(name) if part else "", 1.0 if scale is None else scale(name), 0.0 if flat else weight_decay)
            groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "lr": lr * factor, "weight_decay": decay} | ({"part": name} if part else {})
        for (name, factor, decay), parameters in groups.items()
    ]


def schedule(
    optimizer: Optimizer,
    kind: Decay = "cosine",
    warmup_steps: int = 0,
    total_steps: float = math.inf,
    final_fraction: float = 0.1,
    milestones: Sequence[int] = (),
    gamma: float = 0.1,
    power: float = 0.9,
) -> LambdaLR:
    """Return a schedule that scales every group's learning rate; step it after each optimiser step.

    With w the warm-up, k the step and K the total steps:

    - ``cosine``: (k + 1) / (w + 1) while k < w, then half a cosine from 1 to ``final_fraction`` at K.
    - ``milestones``: the same warm-up, times ``gamma`` for each milestone that is reached.
    - ``poly``: linear from ``final_fraction`` to 1 at w, then f + (1 - f) (1 - (k - w) / (K - w + 1))^``power`` with f
      the final fraction (DeepLab's rule, as AOT's released code has it).

    Without an end (``total_steps`` infinite) cosine and poly stay at 1 after the warm-up. A group's rate may deviate by
    two options: ``rate_scale`` s makes the factor f + s (r - f), which leaves the lowest rate as it is; from
    ``frozen_from``, a fraction of K, the rate is 0.

    Args:
        optimizer: its groups have the peak rates.
        kind: shape of the decay.
        warmup_steps: optimiser steps of linear warm-up.
        total_steps: of the whole training; may be infinite.
        final_fraction: lowest rate, as a fraction of the peak, of ``cosine`` and ``poly``.
        milestones: steps at which the rate falls.
        gamma: factor at a milestone.
        power: exponent of ``poly``.
    """
    lowest = 0.0 if kind == "milestones" else final_fraction
    curves: dict[Decay, Callable[[int], float]] = {
        "cosine": partial(_cosine, warmup=warmup_steps, total=total_steps, lowest=lowest),
        "milestones": partial(_steps, warmup=warmup_steps, milestones=milestones, gamma=gamma),
        "poly": partial(_poly, warmup=warmup_steps, total=total_steps, lowest=lowest, power=power),
    }
    curve = curves[kind]

    def factor(scale: float, frozen_from: float, step: int) -> float:
        if step >= frozen_from * total_steps:
            return 0.0
        rate = curve(step)
        return rate if scale == 1 else lowest + scale * (rate - lowest)

    return LambdaLR(
        optimizer,
        [
            partial(factor, group.get("rate_scale", 1.0), group.get("frozen_from", math.inf))
            for group in optimizer.param_groups
        ],
    )


def adamw(groups: list[dict[str, Any]], lr: float, **options: Any) -> dict[str, Any]:
    """Return what ``configure_optimizers`` is to return: AdamW over ``groups``, with a rate that changes every step.

    Args:
        groups: of ``parameter_groups``.
        lr: rate of groups that have none.
        options: of ``schedule``.
    """
    optimizer = AdamW(groups, lr=lr)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule(optimizer, **options), "interval": "step"}}


def _cosine(step: int, warmup: int, total: float, lowest: float) -> float:
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if math.isinf(total):
        return 1.0
    progress = min(1.0, (step - warmup) / max(1.0, total - warmup))
    return lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * progress))


def _steps(step: int, warmup: int, milestones: Sequence[int], gamma: float) -> float:
    passed = sum(step >= milestone for milestone in milestones)
    return float(min(1.0, (step + 1) / (warmup + 1)) * gamma**passed)


def _poly(step: int, warmup: int, total: float, lowest: float, power: float) -> float:
    if step < warmup:
        return lowest + (1 - lowest) * step / warmup
    if math.isinf(total):
        return 1.0
    left = 1 - (step - warmup) / (total - warmup + 1)
    return float(lowest + (1 - lowest) * max(0.0, left) ** power)
