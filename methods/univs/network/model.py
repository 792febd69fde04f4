"""UniVS (Li et al., CVPR 2024): the network, plain torch.

Legend: B clips, T frames, F frames of any clips, N targets, S = T or 1, L tokens, C channels, D size of a concept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.univs.network.backbone import ImageBackbone
from methods.univs.network.decoder import VideoMaskDecoder
from methods.univs.network.heads import Outputs
from methods.univs.network.language import LanguageToImage
from methods.univs.network.pixel_decoder import PixelDecoder
from methods.univs.network.positions import grid_code, time_code
from methods.univs.network.prompts import PromptTokens, VisualTokens, mean_token
from methods.univs.network.scene import Features, Scene
from methods.univs.network.text_tower import TextTower
from methods.univs.settings import UniVSSettings

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MULTIPLE = 32


class UniVSNetwork(nn.Module):
    """Frames and prompts to masks of learnable and prompt queries; keeps no state between calls but the concept bank.

    A clip: ``encode`` its frames, ``scene`` them, make prompts (``sampler``, then ``visual_prompts``; or
    ``category_prompts``, ``expression_prompts``), ``decode``.

    Args:
        settings: sizes.
        tokenizer: folder of CLIP's vocabulary, where the text tower needs one.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, settings: UniVSSettings, tokenizer: str | Path | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.backbone = ImageBackbone(settings.backbone)
        self.pixels = PixelDecoder(self.backbone.widths, settings)
        self.level = nn.Parameter(torch.randn(3, settings.hidden))
        self.decoder = VideoMaskDecoder(settings)
        self.language = LanguageToImage(settings)
        tasks = ("visual", "category", "expression")
        self.task = nn.ParameterDict({kind: nn.Parameter(torch.randn(settings.hidden)) for kind in tasks})
        for module in (*self.decoder.modules(), *self.language.modules()):
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.text = TextTower(settings.text, tokenizer)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1), persistent=False)

    def encode(self, frames: Tensor) -> Features:
        """Features of frames, float RGB (F, 3, H, W) in 0 to 1, each by itself; any size, padded here."""
        size = (frames.shape[-2], frames.shape[-1])
        padding = (0, -size[1] % MULTIPLE, 0, -size[0] % MULTIPLE)
        mask, maps = self.pixels(self.backbone(F.pad((frames - self.mean) / self.deviation, padding)))
        return Features(mask, maps, size)

    def scene(self, features: Features, frame_index: Tensor) -> Scene:
        """B T frames as clips: adds level embeddings and position codes.

        Args:
            features: of the clips' frames, one clip after the other.
            frame_index: int64 (B, T), indices of the frames in their videos (training recipes keep them up to 128).
        """
        clips, hidden = frame_index.shape, self.settings.hidden
        time = time_code(frame_index, hidden, self.settings.temporal)
        sizes = tuple((x.shape[-2], x.shape[-1]) for x in features.maps)
        sources = tuple(
            x.flatten(2).transpose(1, 2).unflatten(0, clips) + level
            for x, level in zip(features.maps, self.level, strict=True)
        )
        codes = tuple(grid_code(size, hidden, time.device) + time[:, :, None] for size in sizes)
        return Scene(features.mask.unflatten(0, clips), sources, codes, time, sizes, frame_index, features.size)

    def visual_prompts(
        self,
        own: VisualTokens,
        tokens: VisualTokens | None = None,
        valid: Tensor | None = None,
        position_from_content: bool = False,
    ) -> PromptTokens:
        """Prompts from samples of the targets (equations 1 and 2); their mean and the task vector are the first query.

        Args:
            own: (B, N, S, R, C), samples that the first query of each frame is made of.
            tokens: (B, N, S, L, C), what ProCA reads; None = ``own``.
            valid: see ``PromptTokens``.
            position_from_content: the mean token is also the position code (as released, in half the training steps).
        """
        content = mean_token(own.content)
        position = content if position_from_content else mean_token(own.position)
        read = own if tokens is None else tokens
        return PromptTokens("visual", content + self.task["visual"], position, read.content, read.position, valid)

    def category_prompts(self, scene: Scene, concepts: Tensor, valid: Tensor | None = None) -> PromptTokens:
        """Prompts from concepts (B, N, D) of category names (equations 1 and 2)."""
        tokens = self.language(concepts[:, :, None], scene)
        first = tokens[..., 0, :]
        return PromptTokens("category", first + self.task["category"], first, tokens, None, valid)

    def expression_prompts(
        self, scene: Scene, text: Tensor, valid: Tensor | None = None, extra: Tensor | None = None
    ) -> PromptTokens:
        """Prompts from expressions (B, N, L, D), sentence first (equations 1 and 2); see ``TextTower.expressions``.

        Args:
            extra: (B, N, S, L', C), visual tokens that ProCA reads too.
        """
        tokens = self.language(text, scene)
        first = tokens[..., 0, :]
        if extra is not None:
            tokens = torch.cat([extra.expand(-1, -1, tokens.shape[2], -1, -1), tokens], 3)
        return PromptTokens("expression", first + self.task["expression"], first, tokens, None, valid)

    def decode(
        self, scene: Scene, prompts: PromptTokens | None = None, every: bool = True, paired: bool = False
    ) -> list[Outputs]:
        """Outputs before the first decoder layer and after each, or the last alone; see ``VideoMaskDecoder``."""
        return self.decoder(scene, prompts, every, paired)

    def concepts(self, names: Sequence[str]) -> Tensor:
        """Embeddings (K, D) of a vocabulary; see ``TextTower.concepts``."""
        return self.text.concepts(names)

    def class_logits(self, classes: Tensor, concepts: Tensor) -> Tensor:
        """Logits (..., K), for a sigmoid, of ``Predictions.classes`` for a vocabulary's concepts (K, D)."""
        return self.decoder.heads.classes.logits(classes, concepts)
