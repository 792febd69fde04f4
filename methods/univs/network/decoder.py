"""The unified video mask decoder: learnable and prompt queries in two streams with shared weights, and its heads.

Legend: B clips, T frames, Q queries (learnable ones first), N prompt queries, C channels, D channels of a text
embedding, K categories.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.univs.network.attention import CrossAttention, FeedForward, PromptCrossAttention, SeparatedSelfAttention
from methods.univs.network.prompts import PromptTokens
from methods.univs.network.scene import Scene
from methods.univs.settings import SelfAttention, UniVSSettings


@dataclass(frozen=True)
class Predictions:
    """Predictions of Q queries after a decoder layer.

    Attributes:
        masks: logits (B, Q, T, H / 4, W / 4) over the padded frames.
        classes: class embeddings (B, Q, D) of the clip: mean over frames of unit vectors, see ``ClassHead.logits``.
        embeddings: (B, Q, T, C), normalised queries, by which targets are re-identified (ReID).
    """

    masks: Tensor
    classes: Tensor
    embeddings: Tensor


@dataclass(frozen=True)
class Outputs:
    """Predictions of both streams after a decoder layer.

    Attributes:
        learnable: of the learnable queries.
        prompt: of the prompt queries; without queries where there were no prompts.
    """

    learnable: Predictions
    prompt: Predictions


class MaskHead(nn.Module):
    """Mask embeddings of queries: three linear layers with ReLU between them.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(channels, channels) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., C)."""
        first, second, last = self.layers
        out: Tensor = last(second(first(x).relu()).relu())
        return out


class ClassHead(nn.Module):
    """Cosine similarity with the CLIP embeddings of category names, for a sigmoid; there is no null class.

    Args:
        channels: C.
        concepts: D.
    """

    def __init__(self, channels: int, concepts: int) -> None:
        super().__init__()
        self.projection = nn.Linear(channels, concepts)
        self.temperature = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map (B, Q, T, C) to class embeddings (B, Q, D): unit vectors, averaged over frames."""
        return F.normalize(self.projection(embeddings), dim=-1).mean(2)

    def logits(self, classes: Tensor, concepts: Tensor) -> Tensor:
        """Return logits (..., K) for one vocabulary.

        Args:
            classes: class embeddings (..., D).
            concepts: text embeddings (K, D) of the category names.
        """
        return classes @ F.normalize(concepts, dim=-1).T * self.temperature.exp()


class PredictionHeads(nn.Module):
    """Mask, class and embedding heads; all of them read the same norm of the queries.

    Args:
        channels: C.
        concepts: D.
    """

    def __init__(self, channels: int, concepts: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.mask = MaskHead(channels)
        self.classes = ClassHead(channels, concepts)

    def forward(
        self, queries: Tensor, mask_features: Tensor, learnable: int, average_with_learnable: bool = False
    ) -> Outputs:
        """Predict masks, classes and embeddings.

        Args:
            queries: (B, Q, T, C), learnable ones first.
            mask_features: (B, T, C, H / 4, W / 4).
            learnable: number of learnable queries.
            average_with_learnable: average the masks of each prompt query with those of the most similar learnable
                query.
        """
        embeddings = self.norm(queries)
        kernels = self.mask(embeddings)
        if self.training:
            # one random permutation of the frames for all queries: the query of one frame must find its target on
            # another frame
            kernels = kernels[:, :, torch.randperm(kernels.shape[2], device=kernels.device)]
        masks = torch.einsum("bqtc,btchw->bqthw", kernels, mask_features)
        if average_with_learnable:
            masks = self._averaged(masks, embeddings, learnable)
        classes = self.classes(embeddings)
        first, prompted = slice(0, learnable), slice(learnable, None)
        return Outputs(
            Predictions(masks[:, first], classes[:, first], embeddings[:, first]),
            Predictions(masks[:, prompted], classes[:, prompted], embeddings[:, prompted]),
        )

    @staticmethod
    def _averaged(masks: Tensor, embeddings: Tensor, learnable: int) -> Tensor:
        """Masks (B, Q, T, h, w), those of prompt queries averaged with the most similar learnable query's."""
        unit = F.normalize(embeddings, dim=-1)
        similarity = torch.einsum("bqtc,bptc->bqp", unit[:, :learnable], unit[:, learnable:])
        best = similarity.argmax(1)[..., None, None, None].expand_as(masks[:, learnable:])
        averaged = (masks[:, learnable:] + masks[:, :learnable].gather(1, best)) / 2
        return torch.cat([masks[:, :learnable], averaged], 1)


class DecoderLayer(nn.Module):
    """Modules of a layer: ProCA for the prompt queries; masked image cross-attention, SepSA and MLP for all."""

    def __init__(self, settings: UniVSSettings) -> None:
        super().__init__()
        channels, heads = settings.hidden, settings.heads
        self.proca = PromptCrossAttention(channels, heads) if settings.proca else None
        self.cross = CrossAttention(channels, heads)
        self.exchange = SeparatedSelfAttention(channels, heads)
        self.mlp = FeedForward(channels, settings.feedforward)


class VideoMaskDecoder(nn.Module):
    """Transformer decoder whose queries attend to one scale after another and predict after every layer.

    A query is one vector a frame; the T copies of a learnable query start with the same value.
    """

    def __init__(self, settings: UniVSSettings) -> None:
        super().__init__()
        self.settings = settings
        self.layers = nn.ModuleList(DecoderLayer(settings) for _ in range(settings.layers))
        self.query = nn.Parameter(torch.randn(settings.queries, settings.hidden))
        self.query_code = nn.Parameter(torch.randn(settings.queries, settings.hidden))
        self.heads = PredictionHeads(settings.hidden, settings.text.outputs)

    def forward(
        self,
        scene: Scene,
        prompts: PromptTokens | None = None,
        all_layers: bool = True,
        average_with_learnable: bool = False,
    ) -> list[Outputs]:
        """Return the outputs before the first layer and after each layer.

        Args:
            scene: features of the clips.
            prompts: prompts of the clips; None or no prompts decodes the learnable queries alone.
            all_layers: False returns the outputs of the last layer alone, in a list of one.
            average_with_learnable: see ``PredictionHeads``; the released inference sets it for expressions.
        """
        clips, frames = scene.frame_index.shape
        shape, count = (clips, -1, frames, -1), len(self.query)
        # copies: a view of a parameter still asks for a gradient in inference mode, which the count of FLOPs trips over
        x = self.query[:, None].repeat(clips, 1, frames, 1)
        code = self.query_code[:, None].repeat(clips, 1, frames, 1)
        if prompts is not None and len(prompts):
            x = torch.cat([x, prompts.query.expand(shape)], 1)
            code = torch.cat([code, prompts.query_position.expand(shape)], 1)
            x = self._read_prompts(self._layers()[0], x, code, prompts)
            if self.settings.proca:  # from here on a prompt query's content is its own position code
                code = torch.cat([code[:, :count], x[:, count:]], 1)
        outputs = [self.heads(x, scene.mask_features, count, average_with_learnable)]
        for index, layer in enumerate(self._layers()):
            scale = index % len(scene.sources)  # strides 32, 16, 8, 32, ...
            if index:  # the first layer's ProCA ran before the first prediction
                x = self._read_prompts(layer, x, code, prompts)
            mask = attention_mask(outputs[-1], scene.sizes[scale])
            source, source_code = scene.sources[scale].flatten(0, 1), scene.codes[scale].flatten(0, 1)
            x = _by_clip(layer.cross(_by_frame(x), source, _by_frame(code), source_code, mask), clips)
            x = layer.exchange(x, code, count, self._mode(prompts), None if prompts is None else prompts.valid)
            x = layer.mlp(x)
            current = self.heads(x, scene.mask_features, count, average_with_learnable)
            outputs = [*outputs, current] if all_layers else [current]
        return outputs

    def _layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]

    def _read_prompts(self, layer: DecoderLayer, x: Tensor, code: Tensor, prompts: PromptTokens | None) -> Tensor:
        """Apply a layer's ProCA to the prompt queries of x (B, Q, T, C)."""
        count = len(self.query)
        if layer.proca is None or prompts is None or not len(prompts):
            return x
        return torch.cat([x[:, :count], layer.proca(x[:, count:], code[:, count:], prompts)], 1)

    def _mode(self, prompts: PromptTokens | None) -> SelfAttention:
        """Mode of the self-attention: as released, expressions never attend to each other under ``sep``."""
        mode = self.settings.self_attention
        blocked = prompts is not None and prompts.kind == "expression" and mode == "sep"
        return "sep-blocked" if blocked else mode


def attention_mask(outputs: Outputs, size: tuple[int, int]) -> Tensor:
    """Return where queries may attend, bool (B T, 1, Q, h w): inside their masks, everywhere if a mask is empty.

    Args:
        outputs: predictions before the layer.
        size: (h, w) of the scale that the layer attends to.
    """
    masks = torch.cat([outputs.learnable.masks, outputs.prompt.masks], 1).detach()
    small = F.interpolate(masks.flatten(0, 1), size, mode="bilinear", align_corners=False)
    inside = (small.sigmoid() >= 0.5).flatten(-2).view(*masks.shape[:3], -1).transpose(1, 2).flatten(0, 1)
    return (inside | ~inside.any(-1, keepdim=True))[:, None]


def _by_frame(x: Tensor) -> Tensor:
    """(B, Q, T, C) as (B T, Q, C)."""
    return x.transpose(1, 2).flatten(0, 1)


def _by_clip(x: Tensor, clips: int) -> Tensor:
    """(B T, Q, C) as (B, Q, T, C)."""
    return torch.unflatten(x, 0, (clips, -1)).transpose(1, 2)
