"""Stand-in for the UniVS network that segments colours, and clips to train on.

A pixel of colour (10 k, 0, 0) belongs to object k, which learnable query k - 1 segments. A prompt query segments the
object that its tokens were sampled on, or whose number is the count of words of its expression. So a session is right
only if it samples the right masks on the right frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor

from common.data.clip import Clip
from methods.univs.network.decoder import Outputs, Predictions
from methods.univs.network.model import UniVSNetwork
from methods.univs.network.prompts import PromptTokens, VisualTokens, mean_token
from methods.univs.network.scene import Features, Scene

CHANNELS = 8
FRAMES = (2, 3, 7)  # indices of the frames of a random clip


class PaintedUniVSNetwork:
    """The part of ``UniVSNetwork`` that a session uses.

    Attributes:
        lengths: tokens of a target that ProCA would have read in each clip with visual prompts.
        clips: frames of each clip.

    Args:
        classes: (Q, K) class logits of the learnable queries; query q segments object ``finds[q]``.
        finds: None = q + 1.
    """

    def __init__(self, classes: Tensor, finds: Sequence[int] | None = None) -> None:
        self.classes = classes
        self.finds = list(finds or range(1, len(classes) + 1))
        self.text = SimpleNamespace(
            expressions=lambda texts: torch.tensor([len(t.split()) for t in texts])[:, None, None].expand(
                -1, 2, CHANNELS
            )
        )
        self.lengths: list[int] = []
        self.clips: list[list[int]] = []

    def parameters(self) -> Iterator[Tensor]:
        return iter(())

    def encode(self, frames: Tensor) -> Features:
        size = (frames.shape[-2], frames.shape[-1])
        padded = F.pad(frames[:, :1] * 25.5, (0, -size[1] % 32, 0, -size[0] % 32)).round()
        painted = padded.expand(-1, CHANNELS, -1, -1)
        coarse, middle, fine = (painted[..., ::stride, ::stride] for stride in (32, 16, 8))
        return Features(painted[..., ::4, ::4], (coarse, middle, fine), size)

    def scene(self, features: Features, frame_index: Tensor) -> Scene:
        sources = tuple(x.flatten(2).transpose(1, 2)[None] for x in features.maps)
        sizes = tuple((x.shape[-2], x.shape[-1]) for x in features.maps)
        codes = tuple(torch.zeros_like(x) for x in sources)
        time = torch.zeros(1, len(features.mask_features), CHANNELS)
        self.clips.append(frame_index[0].tolist())
        return Scene(features.mask_features[None], sources, codes, time, sizes, frame_index, features.size)

    def visual_prompts(self, query_tokens: VisualTokens, tokens: VisualTokens) -> PromptTokens:
        self.lengths.append(tokens.content.shape[3])
        return PromptTokens(
            "visual",
            mean_token(query_tokens.content),
            query_tokens.position[..., 0, :],
            tokens.content,
            tokens.position,
        )

    def expression_prompts(self, scene: Scene, text: Tensor) -> PromptTokens:
        content = text[:, :, None].float()
        return PromptTokens("expression", content[..., 0, :], content[..., 0, :], content, None)

    def concepts(self, names: Sequence[str]) -> Tensor:
        return torch.zeros(len(names), CHANNELS)

    def class_logits(self, classes: Tensor, concepts: Tensor) -> Tensor:
        return classes

    def decode(
        self,
        scene: Scene,
        prompts: PromptTokens | None = None,
        all_layers: bool = True,
        average_with_learnable: bool = False,
    ) -> list[Outputs]:
        learnable = self._find(scene, torch.tensor(self.finds))
        prompted = torch.zeros(0, dtype=torch.long)
        if prompts is not None:
            prompted = prompts.query[0, ..., 0].mean(1).round().long()
        return [Outputs(learnable, self._find(scene, prompted))]

    def _find(self, scene: Scene, objects: Tensor) -> Predictions:
        painted = scene.mask_features[:, None, :, 0] == objects[:, None, None, None]
        embeddings = 10 * F.one_hot(objects, CHANNELS).float()[None, :, None].expand(-1, -1, painted.shape[2], -1)
        classes = self.classes if len(objects) else self.classes[:0]
        return Predictions(torch.where(painted, 10.0, -10.0), classes[None], embeddings)


def painted(length: int, size: tuple[int, int] = (64, 96), **places: Sequence[tuple[int, int, int] | None]) -> Tensor:
    """Frames uint8 (length, H, W, 3) of squares: ``o1=[(y, x, side), None, ...]`` puts object 1 there, or nowhere."""
    frames = torch.zeros(length, *size, 3, dtype=torch.uint8)
    for name, steps in places.items():
        for frame, place in zip(frames, steps, strict=True):
            if place is not None:
                y, x, side = place
                frame[y : y + side, x : x + side, 0] = 10 * int(name[1:])
    return frames


def object_masks(frames: Tensor, number: int) -> Tensor:
    """Masks bool (length, H, W) of an object."""
    return frames[..., 0] == 10 * number


NAMES = ("ball", "box", "star", "tree", "sky")


def bar_clip(frames: int = 2, kind: str = "category", side: int = 64) -> Clip:
    """Two videos of three bars, with categories, expressions or masks alone; the last bar of all is padding."""
    masks = torch.zeros(2, frames, 3, side, side, dtype=torch.bool)
    for row in range(3):
        masks[:, :, row, :, row * side // 3 : (row + 1) * side // 3] = True
    masks[1, :, 2] = False
    valid = torch.tensor([[True] * 3, [True, True, False]])
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (2, frames, 3, side, side), generator=generator, dtype=torch.uint8)
    clip = Clip(pixels, masks, valid, times=torch.arange(frames).repeat(2, 1))
    if kind == "category":
        return replace(clip, categories=torch.tensor([[0, 0, 4], [2, 0, -1]]), vocabulary=NAMES, stuff=("sky",))
    if kind == "expression":
        return replace(clip, expressions=[["a ball", "the box", "sky"], ["a star", "a tree", ""]])
    return clip


def random_visual_prompts(network: UniVSNetwork, targets: int = 2, tokens: int = 5, seed: int = 0) -> PromptTokens:
    """Prompts with random tokens, shared by all frames."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, targets, 1, tokens, network.settings.hidden)
    return network.visual_prompts(
        VisualTokens(torch.randn(shape, generator=generator), torch.randn(shape, generator=generator))
    )
