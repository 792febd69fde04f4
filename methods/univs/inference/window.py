"""A clip as inference sees it, and what all its targets share: prompts from pools, one pass of the decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from common.video import FrameMasks
from methods.univs.inference.mask_ops import coarse_to_frame
from methods.univs.inference.memory_pool import Pool
from methods.univs.network.heads import Predictions
from methods.univs.network.model import UniVSNetwork
from methods.univs.network.prompts import PromptTokens, VisualTokens, stack_tokens
from methods.univs.network.scene import Scene
from methods.univs.network.visual_sampler import sample_mask


@dataclass(frozen=True)
class Window:
    """T successive frames.

    Attributes:
        scene: a batch of one clip.
        frames: their indices in the video.
        size: (H, W) of the video.
    """

    scene: Scene
    frames: range
    size: tuple[int, int]

    def sample(self, frame: int, mask: Tensor, points: int) -> VisualTokens:
        """Tokens (points, C) of a mask bool at the size of the network's frame; the draw depends on the frame alone."""
        place = self.frames.index(frame)
        return sample_mask(self.scene, 0, place, mask, points, generator=torch.Generator().manual_seed(frame))

    def renew(self, pool: Pool, points: int, given: int | None = None) -> None:
        """Sample a target anew on the frames that the next clip shares, but for one where its mask was given."""
        for frame in self.frames[1:] or self.frames:
            logits = pool.masks(frame)
            if logits is not None and frame != given:
                mask = coarse_to_frame(logits > 0, self.scene.size)
                pool.renew(frame, self.sample(frame, mask, points))


class Task(Protocol):
    """What is done with the clips of a video.

    Attributes:
        stride: frames from one clip to the next.
        idle: there is nothing to follow, and nothing open.
    """

    stride: int

    @property
    def idle(self) -> bool: ...

    def look(self, window: Window) -> None:
        """Take the next clip."""

    def answer(self, frame: int, window: Window) -> FrameMasks:
        """The answer to a frame of the last clip, which is not asked for again."""


def pool_prompts(model: UniVSNetwork, pools: Sequence[Pool], frames: Sequence[int], memory: int) -> PromptTokens:
    """Visual prompts from pools: a frame's query from the tokens of its slot; ProCA reads the pool.

    A pool with fewer slots than others is read in a circle.
    """
    own = stack_tokens([stack_tokens([pool.tokens[frame] for frame in frames]) for pool in pools])
    read = [pool.read(memory) for pool in pools]
    longest = max(len(tokens.content) for tokens in read)
    wrapped = [torch.arange(longest) % len(tokens.content) for tokens in read]
    tokens = stack_tokens([VisualTokens(t.content[i], t.position[i]) for t, i in zip(read, wrapped, strict=True)])
    return model.visual_prompts(
        VisualTokens(own.content[None], own.position[None]),
        VisualTokens(tokens.content[None, :, None], tokens.position[None, :, None]),
    )


def float32(predictions: Predictions) -> Predictions:
    """Of the one clip: masks (Q, T, h, w), classes (Q, D), embeddings (Q, T, C), whatever the precision."""
    return Predictions(predictions.masks[0].float(), predictions.classes[0].float(), predictions.embeddings[0].float())
