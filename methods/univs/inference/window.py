"""A clip during inference, and what all tasks share: their protocol, and prompts from memory pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from common.video import FrameMasks
from methods.univs.inference.mask_ops import upsample_masks
from methods.univs.inference.memory_pool import MemoryPool
from methods.univs.network.decoder import Predictions
from methods.univs.network.model import UniVSNetwork
from methods.univs.network.prompts import PromptTokens, VisualTokens, stack_tokens
from methods.univs.network.scene import Scene
from methods.univs.network.visual_sampler import sample_mask


@dataclass(frozen=True)
class Window:
    """T successive frames of a video.

    Attributes:
        scene: their features, a batch of one clip.
        frames: their indices in the video.
        size: (H, W) of the video.
    """

    scene: Scene
    frames: range
    size: tuple[int, int]

    def sample(self, frame: int, mask: Tensor, points: int) -> VisualTokens:
        """Sample tokens (points, C) inside a mask; the draw depends on the frame index alone.

        Args:
            frame: index of the frame in the video.
            mask: bool, at the size of the network's frame before padding.
            points: number of tokens.
        """
        place = self.frames.index(frame)
        return sample_mask(self.scene, 0, place, mask, points, generator=torch.Generator().manual_seed(frame))

    def resample(self, pool: MemoryPool, points: int, prompt_frame: int | None = None) -> None:
        """Sample a target's tokens from its predicted masks on the frames that the next clip shares.

        Args:
            pool: memory of the target.
            points: number of tokens of a frame.
            prompt_frame: frame of the user's mask, whose tokens are kept.
        """
        # clips slide by one frame, so that the first frame is not in the next clip; a clip of one frame has no other
        for frame in self.frames[1:] or self.frames:
            logits = pool.mask_logits(frame)
            if logits is not None and frame != prompt_frame:
                mask = upsample_masks(logits > 0, self.scene.size)
                pool.replace_tokens(frame, self.sample(frame, mask, points))


class Task(Protocol):
    """What a session does with the clips of a video.

    Attributes:
        stride: frames from the start of one clip to the start of the next.
    """

    stride: int

    @property
    def idle(self) -> bool:
        """True if there is no target, neither tracked nor on a pending frame."""

    def observe(self, window: Window) -> None:
        """Process the next clip."""

    def predict(self, frame: int, window: Window) -> FrameMasks:
        """Return the final masks of a frame of the last clip.

        Args:
            frame: index of the frame in the video; each frame is predicted once.
            window: the last clip.
        """


def pool_prompts(
    network: UniVSNetwork, pools: Sequence[MemoryPool], frames: Sequence[int], memory: int
) -> PromptTokens:
    """Build visual prompts: the query of a frame from the tokens of its slot; ProCA reads the whole pool.

    Args:
        network: the network.
        pools: memory of N targets. Pools with fewer tokens than others are repeated to the same length.
        frames: indices of the clip's frames.
        memory: slots that ProCA reads, M.
    """
    # (N, T, R, C)
    frame_tokens = stack_tokens([stack_tokens([pool.tokens[frame] for frame in frames]) for pool in pools])
    # pools of young targets are shorter: their tokens are repeated up to the length of the longest
    stored = [pool.read(memory) for pool in pools]
    longest = max(len(tokens.content) for tokens in stored)
    wrapped = [torch.arange(longest) % len(tokens.content) for tokens in stored]
    tokens = stack_tokens([VisualTokens(t.content[i], t.position[i]) for t, i in zip(stored, wrapped, strict=True)])
    return network.visual_prompts(
        VisualTokens(frame_tokens.content[None], frame_tokens.position[None]),
        VisualTokens(tokens.content[None, :, None], tokens.position[None, :, None]),
    )


def first_clip(predictions: Predictions) -> Predictions:
    """Return the only clip of a batch in float32: masks (Q, T, h, w), classes (Q, D), embeddings (Q, T, C)."""
    return Predictions(predictions.masks[0].float(), predictions.classes[0].float(), predictions.embeddings[0].float())
