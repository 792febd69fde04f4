"""A network that sees what is painted: a pixel of colour (10 k, 0, 0) belongs to object k, and query k - 1 finds it.

A prompt query finds the object that its tokens, or the number of words of its text, say. So a session is right only if
it samples the right masks on the right frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.univs.network.heads import Outputs, Predictions
from methods.univs.network.prompts import PromptTokens, VisualTokens, mean_token
from methods.univs.network.scene import Features, Scene

CHANNELS = 8


class PaintedUniVs:
    """What a session needs of ``UniVSNetwork``.

    Attributes:
        lengths: tokens of a target that ProCA would have read in each clip with visual prompts.
        clips: frames of each clip.

    Args:
        classes: (Q, K) class logits of the learnable queries; query q finds object ``finds[q]``.
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
        time = torch.zeros(1, len(features.mask), CHANNELS)
        self.clips.append(frame_index[0].tolist())
        return Scene(features.mask[None], sources, codes, time, sizes, frame_index, features.size)

    def visual_prompts(self, own: VisualTokens, tokens: VisualTokens) -> PromptTokens:
        self.lengths.append(tokens.content.shape[3])
        return PromptTokens("visual", mean_token(own.content), own.position[..., 0, :], tokens.content, tokens.position)

    def expression_prompts(self, scene: Scene, text: Tensor) -> PromptTokens:
        content = text[:, :, None].float()
        return PromptTokens("expression", content[..., 0, :], content[..., 0, :], content, None)

    def concepts(self, names: Sequence[str]) -> Tensor:
        return torch.zeros(len(names), CHANNELS)

    def class_logits(self, classes: Tensor, concepts: Tensor) -> Tensor:
        return classes

    def decode(
        self, scene: Scene, prompts: PromptTokens | None = None, every: bool = True, paired: bool = False
    ) -> list[Outputs]:
        learnable = self._find(scene, torch.tensor(self.finds))
        asked = torch.zeros(0, dtype=torch.long)
        if prompts is not None:
            asked = prompts.query[0, ..., 0].mean(1).round().long()
        return [Outputs(learnable, self._find(scene, asked))]

    def _find(self, scene: Scene, objects: Tensor) -> Predictions:
        painted = scene.mask[:, None, :, 0] == objects[:, None, None, None]
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


def shown(frames: Tensor, number: int) -> Tensor:
    """Masks bool (length, H, W) of an object."""
    return frames[..., 0] == 10 * number
