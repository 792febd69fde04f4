"""VQ-SAM's network with answers as told, for what is built around it: clips, borders, tracks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.nn.sam2 import Candidates, FrameFeatures
from methods.vqsam.model import Query


class Fake(nn.Module):
    """Stands in for the network behind the encoder.

    Args:
        core: SAM 2, which encodes.
        scores: occlusion scores of each call's frames; a call of another length fails.
        drawn: bool (K, S/4, S/4), the candidates of every frame; default one that fills it.
        ious: (K,), their predicted IoUs.

    Attributes:
        calls: clips looked at.
    """

    def __init__(
        self, core: nn.Module, scores: list[list[float]], drawn: Tensor | None = None, ious: Tensor | None = None
    ) -> None:
        super().__init__()
        self.sam2, self.scores, self.calls = core, scores, 0
        side = core.image_size // 4  # type: ignore[operator]
        self.drawn = torch.ones(1, side, side, dtype=torch.bool) if drawn is None else drawn
        self.ious = torch.ones(len(self.drawn)) if ious is None else ious

    def encode_query(self, features: FrameFeatures, masks: Tensor) -> Query:
        return Query(torch.zeros(1), torch.zeros(1))

    def forward(self, features: FrameFeatures, rows: Tensor, query: Query) -> list[Candidates]:
        scores = self.scores[self.calls]
        self.calls += 1
        assert len(scores) == len(features.embedding) == rows.shape[1]
        logits = torch.where(self.drawn, 1.0, -1.0).expand(len(scores), -1, -1, -1)
        ious = self.ious.expand(len(scores), -1)
        return [Candidates(logits, ious, torch.tensor(scores), torch.zeros(*ious.shape, 4))]
