"""Learning rates and weight decay of the base tracker's training, as the released code has them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from methods.hqsmem.deaot.training import SELF_PROPAGATION_START

POWER = 0.9
UNDECAYED = ("relative_position_bias_table", "decoder.predict.")


def parameter_groups(net: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters by ``part`` (``encoder``, ``id_bank``, ``rest``) and decay.

    Biases, norms, the tables of relative positions and the layer that makes the logits do not decay.
    """
    groups: dict[tuple[str, float], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            part = name.split(".")[0]
            kept = parameter.ndim <= 1 or any(key in name for key in UNDECAYED)
            key = (part if part in ("encoder", "id_bank") else "rest", 0.0 if kept else weight_decay)
            groups.setdefault(key, []).append(parameter)
    return [{"params": own, "lr": lr, "weight_decay": decay, "part": part} for (part, decay), own in groups.items()]


def rate(step: int, lr: float, lowest: float, warmup: int, total: float) -> float:
    """Lowest + (lr - lowest) (1 - k / (K + 1))^0.9, with k and K counted from the end of a linear warm-up.

    Args:
        step: from 0.
        lr, lowest: first and last; the warm-up starts from ``lowest``.
        warmup, total: steps; without an end (infinite) the rate stays at ``lr``.
    """
    if step < warmup:
        return lowest + (lr - lowest) * step / warmup
    if math.isinf(total):
        return lr
    left = 1 - (step - warmup) / (total - warmup + 1)
    return lowest + (lr - lowest) * max(0.0, left) ** POWER


def optimisation(
    groups: list[dict[str, Any]], lr: float, lowest: float, warmup: int, total: float, encoder_lr: float
) -> dict[str, Any]:
    """What ``configure_optimizers`` returns: AdamW with a rate of its own for each part.

    The encoder's is (rate - lowest) ``encoder_lr`` + lowest; the ID bank's falls to 0 at ``SELF_PROPAGATION_START``, by
    which it does not decay either.
    """

    def factor(part: str, step: int) -> float:
        now = rate(step, lr, lowest, warmup, total)
        if part == "encoder":
            now = (now - lowest) * encoder_lr + lowest
        return 0.0 if part == "id_bank" and step >= SELF_PROPAGATION_START * total else now / lr

    optimizer = AdamW(groups, lr=lr)
    factors: list[Callable[[int], float]] = [partial(factor, group["part"]) for group in groups]
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factors), "interval": "step"}}
