"""Batch norms that keep the statistics of their pretraining."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from typing_extensions import Self


def batch_norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    """List all 2-D batch norms in a module, itself included."""
    return [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]


class FrozenNormModule(nn.Module):
    """A module whose batch norms never update their running statistics: subclass it and set ``frozen_norm``.

    Clips give batches of few, highly correlated frames, on which batch statistics are poor estimates.

    Attributes:
        frozen_norm: batch norms stay in eval mode when the module is in training mode.
    """

    frozen_norm: bool = True

    def train(self, mode: bool = True) -> Self:
        """Set the training mode; frozen batch norms stay in eval mode."""
        super().train(mode)
        if self.frozen_norm:
            for norm in batch_norms(self):
                norm.eval()
        return self
