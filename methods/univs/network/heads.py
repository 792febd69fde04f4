"""Prediction heads: masks, classes by CLIP similarity, embeddings."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.univs.network.attention import Perceptron


@dataclass(frozen=True)
class Predictions:
    """Of Q queries after a decoder layer.

    Attributes:
        masks: logits (B, Q, T, H / 4, W / 4) over the padded frames.
        classes: (B, Q, D), the clip's class embedding: mean over frames of unit vectors. See ``ClassHead.logits``.
        embeddings: (B, Q, T, C), the normed queries, by which targets are recognised again (ReID).
    """

    masks: Tensor
    classes: Tensor
    embeddings: Tensor


@dataclass(frozen=True)
class Outputs:
    """After a decoder layer, of the two streams; ``prompt`` has no query where there was no prompt."""

    learnable: Predictions
    prompt: Predictions


class ClassHead(nn.Module):
    """Cosine similarity with the CLIP embeddings of category names, for a sigmoid; there is no null class."""

    def __init__(self, channels: int, concepts: int) -> None:
        super().__init__()
        self.projection = nn.Linear(channels, concepts)
        self.temperature = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, embeddings: Tensor) -> Tensor:
        """(B, Q, T, C) to class embeddings (B, Q, D): unit vectors, averaged over frames."""
        return F.normalize(self.projection(embeddings), dim=-1).mean(2)

    def logits(self, classes: Tensor, concepts: Tensor) -> Tensor:
        """Logits (..., K) of class embeddings (..., D) for the concepts (K, D) of one vocabulary."""
        return classes @ F.normalize(concepts, dim=-1).T * self.temperature.exp()


class Heads(nn.Module):
    """All heads read the same norm of the queries."""

    def __init__(self, channels: int, concepts: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.mask = Perceptron(channels)
        self.classes = ClassHead(channels, concepts)

    def forward(self, queries: Tensor, features: Tensor, learnable: int, paired: bool) -> Outputs:
        """Predictions of queries (B, Q, T, C), the first ``learnable`` of them learnable, on features (B, T, C, h, w).

        In training the mask embeddings of all queries are put to other frames by one random permutation, so that the
        query of one frame must find its target on another.

        Args:
            paired: average the masks of each prompt query with those of the most similar learnable one.
        """
        embeddings = self.norm(queries)
        kernels = self.mask(embeddings)
        if self.training:
            kernels = kernels[:, :, torch.randperm(kernels.shape[2], device=kernels.device)]
        masks = torch.einsum("bqtc,btchw->bqthw", kernels, features)
        if paired:
            masks = self._paired(masks, embeddings, learnable)
        classes = self.classes(embeddings)
        learned, prompted = slice(0, learnable), slice(learnable, None)
        return Outputs(
            Predictions(masks[:, learned], classes[:, learned], embeddings[:, learned]),
            Predictions(masks[:, prompted], classes[:, prompted], embeddings[:, prompted]),
        )

    @staticmethod
    def _paired(masks: Tensor, embeddings: Tensor, learnable: int) -> Tensor:
        unit = F.normalize(embeddings, dim=-1)
        similar = torch.einsum("bqtc,bptc->bqp", unit[:, :learnable], unit[:, learnable:])
        best = similar.argmax(1)[..., None, None, None].expand_as(masks[:, learnable:])
        averaged = (masks[:, learnable:] + masks[:, :learnable].gather(1, best)) / 2
        return torch.cat([masks[:, :learnable], averaged], 1)
