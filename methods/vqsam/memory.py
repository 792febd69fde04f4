"""The memory generator, eq. (5) to (8): the weighted memories of the query, the targets and the distractors.

The weights depend on the memories in AMG, are learned constants in SLMG, and are equal in EMG (Table 8).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from common.nn.transfer import to_device

Fusion = Literal["adaptive", "static", "equal"]
Combine = Literal["concat", "sum"]
Pooling = Literal["frames", "space"]

KINDS = 3  # memory of the query, of the targets, of the distractors


class MemoryGenerator(nn.Module):
    """Generate the memory of the next stage, M^{k+1}, from M_0 and the memories of selected targets and distractors.

    The last layers of its MLPs start at zero: at first the target's memory is that of SAM 2, the distractor's is a copy
    of the query's, and all weights are equal.

    Args:
        fusion: ``adaptive`` (AMG), ``static`` (SLMG) or ``equal`` (EMG).
        combine: ⊕ of eq. (8): ``concat`` keeps the maps apart, ``sum`` adds them up.
        pooling: GP of eq. (6): over the selected ``frames``, or over ``space`` as well.
        width: channels of a memory map.
        hidden: hidden width of the MLPs.
    """

    def __init__(
        self,
        fusion: Fusion = "adaptive",
        combine: Combine = "concat",
        pooling: Pooling = "frames",
        width: int = 64,
        hidden: int = 64,
    ) -> None:
        super().__init__()
        self.fusion, self.combine, self.pooling = fusion, combine, pooling
        self.target, self.distractor = _mlp(width, hidden, width), _mlp(width, hidden, width)
        if fusion == "adaptive":
            self.weigh = _mlp(KINDS * width, hidden, KINDS)
        elif fusion == "static":
            self.logits = nn.Parameter(torch.zeros(KINDS))

    def forward(self, initial: Tensor, targets: Tensor, distractors: Tensor) -> list[Tensor]:
        """Generate the memory of one query.

        Args:
            initial: M_0 (1, 64, h, w).
            targets: memories T of the selected targets (n, 64, h, w), n >= 0.
            distractors: memories D of the selected distractors (m, 64, h, w), m >= 0.

        Returns:
            Maps (1, 64, h, w): M_0 alone where nothing was selected; else one for each kind present with ``concat``,
            a single one with ``sum``.
        """
        kinds: list[Tensor | None] = [initial, None, None]
        if len(targets):
            pooled = self._pool(targets)
            kinds[1] = pooled + _on_channels(self.target, pooled)
        if len(distractors):
            kinds[2] = initial + _on_channels(self.distractor, self._pool(distractors))
        present = [kind for kind in kinds if kind is not None]
        if len(present) == 1:
            return [initial]
        weights = self.weights(kinds)
        # scaled so that equal weights are factors of 1: SAM 2's memory attention expects maps at their full magnitude
        scale = len(present) if self.combine == "concat" else 1
        weighted = [scale * weights[i] * kind for i, kind in enumerate(kinds) if kind is not None]
        return weighted if self.combine == "concat" else [torch.stack(weighted).sum(0)]

    def weights(self, kinds: list[Tensor | None]) -> Tensor:
        """Compute the weights of eq. (7).

        Args:
            kinds: maps (1, 64, h, w) of query, targets and distractors; None for a kind that is absent.

        Returns:
            (3,), sums to 1, 0 for an absent kind.
        """
        first = kinds[0]
        assert first is not None
        present = to_device([kind is not None for kind in kinds], first.device)
        if self.fusion == "adaptive":
            absent = first.new_zeros(first.shape[1])
            logits = self.weigh(torch.cat([absent if k is None else k.mean((0, 2, 3)) for k in kinds]))
        elif self.fusion == "static":
            logits = self.logits
        else:
            logits = first.new_zeros(KINDS)
        weights: Tensor = logits.masked_fill(~present, -torch.inf).softmax(0)
        return weights

    def _pool(self, maps: Tensor) -> Tensor:
        """Pool maps (n, 64, h, w) over frames, and over space if set, to one map (1, 64, h, w)."""
        pooled = maps.mean(0, keepdim=True)
        return pooled if self.pooling == "frames" else pooled.mean((2, 3), keepdim=True).expand_as(pooled)


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Build an MLP of two layers, the second of which starts at zero."""
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), last)


def _on_channels(mlp: nn.Module, maps: Tensor) -> Tensor:
    """Apply an MLP to the channels of maps (n, C, h, w)."""
    out: Tensor = mlp(maps.movedim(1, -1)).movedim(-1, 1)
    return out
