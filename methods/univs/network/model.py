"""The network of UniVS (Li et al., CVPR 2024), in plain PyTorch.

Legend: B clips, T frames, M frames of any clips, N targets, S = T or 1 (shared by all frames), L tokens, R sampled
tokens, C channels, D channels of a text embedding, K categories.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.nn.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from common.nn.timing import part
from methods.univs.network.backbone import ImageBackbone
from methods.univs.network.decoder import Outputs, VideoMaskDecoder
from methods.univs.network.pixel_decoder import PixelDecoder
from methods.univs.network.positions import grid_code, time_code
from methods.univs.network.prompts import PromptTokens, VisualTokens, mean_token
from methods.univs.network.scene import Features, Scene
from methods.univs.network.text_tower import LanguageToImage, TextTower
from methods.univs.settings import UniVSSettings

MULTIPLE = 32  # of which the sides of padded frames are


class UniVSNetwork(nn.Module):
    """Maps frames and prompts to masks of learnable and prompt queries; stateless but for the cached text embeddings.

    For a clip: ``encode`` its frames, build its ``scene``, build prompts (with the functions of ``visual_sampler`` and
    ``visual_prompts``; or with ``category_prompts`` or ``expression_prompts``), and ``decode``.

    Args:
        settings: sizes.
        tokenizer: folder of CLIP's vocabulary, if the text encoder needs one.
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
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    @part("encode")
    def encode(self, frames: Tensor) -> Features:
        """Encode frames independently of each other.

        Args:
            frames: float RGB (M, 3, H, W) in 0 to 1, of any size; they are padded here.
        """
        size = (frames.shape[-2], frames.shape[-1])
        # at the bottom and on the right, so that coordinates stay as they are
        padding = (0, -size[1] % MULTIPLE, 0, -size[0] % MULTIPLE)
        mask_features, maps = self.pixels(self.backbone(F.pad((frames - self.mean) / self.deviation, padding)))
        return Features(mask_features, maps, size)

    def scene(self, features: Features, frame_index: Tensor) -> Scene:
        """Group B T frames into clips, and add level embeddings and position codes.

        Args:
            features: of the clips' frames, one clip after the other.
            frame_index: int64 (B, T), indices of the frames in their videos. Training keeps them at most at 128.
        """
        clips, hidden = frame_index.shape[0], self.settings.hidden
        time = time_code(frame_index, hidden, self.settings.temporal)
        sizes = tuple((x.shape[-2], x.shape[-1]) for x in features.maps)
        sources = tuple(
            torch.unflatten(x.flatten(2).transpose(1, 2), 0, (clips, -1)) + level
            for x, level in zip(features.maps, self.level, strict=True)
        )
        # a 3D code is the sum of a code of the place and a code of the time
        codes = tuple(grid_code(size, hidden, time.device) + time[:, :, None] for size in sizes)
        mask_features = torch.unflatten(features.mask_features, 0, (clips, -1))
        return Scene(mask_features, sources, codes, time, sizes, frame_index, features.size)

    def visual_prompts(
        self,
        query_tokens: VisualTokens,
        tokens: VisualTokens | None = None,
        valid: Tensor | None = None,
        position_from_content: bool = False,
    ) -> PromptTokens:
        """Build visual prompts (equations 1 and 2): the initial query is the mean token plus the task embedding.

        Args:
            query_tokens: (B, N, S, R, C), tokens that the initial query of each frame is the mean of.
            tokens: (B, N, S, L, C), tokens that ProCA reads; None = ``query_tokens``.
            valid: bool (B, N), see ``PromptTokens``.
            position_from_content: use the mean token as the query's position code too (as released, in half of the
                training steps).
        """
        content = mean_token(query_tokens.content)
        position = content if position_from_content else mean_token(query_tokens.position)
        tokens = query_tokens if tokens is None else tokens
        query = content + self.task["visual"]
        return PromptTokens("visual", query, position, tokens.content, tokens.position, valid)

    def category_prompts(self, scene: Scene, concepts: Tensor, valid: Tensor | None = None) -> PromptTokens:
        """Build prompts from category names (equations 1 and 2).

        Args:
            scene: features of the clips.
            concepts: text embeddings (B, N, D) of the names.
            valid: bool (B, N), see ``PromptTokens``.
        """
        tokens = self.language(concepts[:, :, None], scene)
        name = tokens[..., 0, :]
        return PromptTokens("category", name + self.task["category"], name, tokens, None, valid)

    def expression_prompts(
        self, scene: Scene, text: Tensor, valid: Tensor | None = None, extra: Tensor | None = None
    ) -> PromptTokens:
        """Build prompts from expressions (equations 1 and 2).

        Args:
            scene: features of the clips.
            text: tokens (B, N, L, D), sentence first; see ``TextTower.expressions``.
            valid: bool (B, N), see ``PromptTokens``.
            extra: (B, N, S, L', C), visual tokens that ProCA reads in addition.
        """
        tokens = self.language(text, scene)
        sentence = tokens[..., 0, :]
        if extra is not None:
            tokens = torch.cat([extra.expand(-1, -1, tokens.shape[2], -1, -1), tokens], 3)
        return PromptTokens("expression", sentence + self.task["expression"], sentence, tokens, None, valid)

    def decode(
        self,
        scene: Scene,
        prompts: PromptTokens | None = None,
        all_layers: bool = True,
        average_with_learnable: bool = False,
    ) -> list[Outputs]:
        """Decode clips; see ``VideoMaskDecoder.forward``.

        Args:
            scene: features of the clips.
            prompts: prompts of the clips, if any.
            all_layers: return the outputs of all layers, or those of the last alone.
            average_with_learnable: average the masks of prompt queries with those of learnable ones.
        """
        outputs: list[Outputs] = self.decoder(scene, prompts, all_layers, average_with_learnable)
        return outputs

    def concepts(self, names: Sequence[str]) -> Tensor:
        """Return the text embeddings (K, D) of a vocabulary; see ``TextTower.concepts``."""
        return self.text.concepts(names)

    def class_logits(self, classes: Tensor, concepts: Tensor) -> Tensor:
        """Return class logits (..., K), for a sigmoid.

        Args:
            classes: class embeddings (..., D), see ``Predictions.classes``.
            concepts: text embeddings (K, D) of a vocabulary.
        """
        return self.decoder.heads.classes.logits(classes, concepts)


def frozen_parts(network: UniVSNetwork, stages: int, pixel_decoder: bool) -> list[nn.Module]:
    """Freeze the first stages of the backbone, and optionally the pixel decoder.

    Args:
        network: the network, whose frozen parameters no longer require gradients.
        stages: stages of the backbone to freeze, see ``ImageBackbone.freeze``.
        pixel_decoder: freeze the pixel decoder too.

    Returns:
        The frozen modules, which must stay in eval mode.
    """
    parts = network.backbone.freeze(stages)
    if pixel_decoder:
        network.pixels.requires_grad_(False)
        parts.append(network.pixels)
    return parts
