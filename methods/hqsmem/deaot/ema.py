"""Averaged weights: what is validated, tested and saved is the average, as the released checkpoints are."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

SPAN = 0.1  # of the training that the average looks back on


def decay_at(updates: float, steps: float) -> float:
    """Share of the old average that an update keeps: 1 - 1 / (0.1 steps), less while there were few updates.

    Source: the released code, d = min(1 - 1 / (0.1 steps), (1 + n) / (10 + n)).

    Args:
        updates: n, so many there were.
        steps: of the whole training; may be infinite.
    """
    return min(1 - 1 / max(1.0, SPAN * steps), (1 + updates) / (10 + updates))


class AveragedWeights(WeightAveraging):
    """Exponential moving average of weights and buffers; the checkpoint's ``state_dict`` is the average."""

    def __init__(self) -> None:
        super().__init__(avg_fn=self._average)
        self.steps = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note how long the training is."""
        self.steps = trainer.estimated_stepping_batches

    def _average(self, average: Tensor, current: Tensor, updates: Any) -> Tensor:
        if not average.is_floating_point():
            return current
        decay = decay_at(float(updates), self.steps)
        return decay * average + (1 - decay) * current
