"""The memory of the next stage, eq. (5) to (8): the query's memory, the target's and the distractor's, weighed.

AMG weighs them by what they hold; SLMG by learned constants; EMG all alike (Table 8).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Fusion = Literal["adaptive", "static", "equal"]
Combine = Literal["concat", "sum"]
Pooling = Literal["frames", "space"]

KINDS = 3  # the query's memory, the target's, the distractor's


class MemoryGenerator(nn.Module):
    """M^{k+1} from M_0 and what the stage found of target and distractor.

    It starts harmless: the target's memory goes in as SAM 2 encoded it, a distractor's counts as the query's own,
    and all weights are alike.

    Args:
        fusion: ``adaptive`` (AMG), ``static`` (SLMG) or ``equal`` (EMG).
        combine: ⊕ of eq. (8): ``concat`` keeps the maps apart, ``sum`` adds them up.
        pooling: GP of eq. (6): over the selected ``frames``, or over ``space`` as well.
        width: channels of a memory map.
        hidden: width of the MLPs.
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
        """One query.

        Args:
            initial: M_0 (1, 64, h, w).
            targets: T (n, 64, h, w), n >= 0.
            distractors: D (m, 64, h, w), m >= 0.

        Returns:
            Maps (1, 64, h, w): M_0 alone where nothing was found; else with ``concat`` one for each kind there is,
            with ``sum`` one.
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
        # a network that reads maps of full size must not find them shrunk: equal weights leave them as they are
        scale = len(present) if self.combine == "concat" else 1
        weighed = [scale * weights[i] * kind for i, kind in enumerate(kinds) if kind is not None]
        return weighed if self.combine == "concat" else [torch.stack(weighed).sum(0)]

    def weights(self, kinds: list[Tensor | None]) -> Tensor:
        """Eq. (7): weights (3,) of the maps (1, 64, h, w); 0 for a kind that is None, and they sum to 1."""
        first = kinds[0]
        assert first is not None
        there = torch.tensor([kind is not None for kind in kinds], device=first.device)
        if self.fusion == "adaptive":
            absent = first.new_zeros(first.shape[1])
            logits = self.weigh(torch.cat([absent if k is None else k.mean((0, 2, 3)) for k in kinds]))
        elif self.fusion == "static":
            logits = self.logits
        else:
            logits = first.new_zeros(KINDS)
        return logits.masked_fill(~there, -torch.inf).softmax(0)

    def _pool(self, maps: Tensor) -> Tensor:
        """GP: (n, 64, h, w) to (1, 64, h, w); pooled over space, it is the same everywhere."""
        pooled = maps.mean(0, keepdim=True)
        return pooled if self.pooling == "frames" else pooled.mean((2, 3), keepdim=True).expand_as(pooled)


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two layers; the second starts at zero."""
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), last)


def _on_channels(mlp: nn.Module, maps: Tensor) -> Tensor:
    """An MLP over the channels of (n, C, h, w)."""
    return mlp(maps.movedim(1, -1)).movedim(-1, 1)
