"""Exponential moving average of the weights, as a callback."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


def decay_at(updates: float, steps: float, span: float = 0.1) -> float:
    """Return the share of the old average that an update keeps: d = min(1 - 1 / (span S), (1 + n) / (10 + n)).

    Source of the rule: the released code of AOT; its second term, which lets the average follow early, is TensorFlow's.

    Args:
        updates: n, the number of earlier updates.
        steps: S, optimiser steps of the whole training; may be infinite.
        span: share of the training that the average looks back on.
    """
    return min(1 - 1 / max(1.0, span * steps), (1 + updates) / (10 + updates))


class AveragedWeights(WeightAveraging):
    """Exponential moving average of weights and buffers: what is validated, tested and saved is the average.

    The ``state_dict`` of a checkpoint is the average too, as in released checkpoints.

    Args:
        decay: share of the old average that an update keeps; None = ``decay_at``, which depends on the length of the
            training.
        span: for ``decay_at``.
    """

    def __init__(self, decay: float | None = None, span: float = 0.1) -> None:
        super().__init__(avg_fn=self._average)
        self.decay, self.span, self.steps = decay, span, 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the length of the training."""
        self.steps = float(trainer.estimated_stepping_batches)

    def _average(self, average: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
        if not average.is_floating_point():
            return current
        decay = decay_at(float(updates), self.steps, self.span) if self.decay is None else self.decay
        return decay * average + (1 - decay) * current
