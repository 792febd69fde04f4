"""Sizes of the core and budgets of its memory, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from common.errors import InputError


@dataclass(frozen=True)
class DiscriminativeSettings:
    """Readings of the discriminative query (equations 4 to 6); the defaults are those that the README argues for.

    Attributes:
        heads: arg-max per head, or one over all channels with 1 (as printed).
        gathered: ``encoded`` = normalised feature with position (as released), ``raw`` = the plain one (as printed).
        project: W_p on query * salient feature (as released); without it the plain product (as printed).
        norm: axis of the L2 norm in equation 5: ``channels``, or ``queries`` as released.
    """

    heads: int = 8
    gathered: Literal["encoded", "raw"] = "encoded"
    project: bool = True
    norm: Literal["channels", "queries"] = "channels"


@dataclass(frozen=True)
class CoreSettings:
    """Widths and counts; the defaults are those of Cutie-base (Cheng et al., CVPR 2024).

    Attributes:
        key: channels of the similarity.
        value: of a pixel memory.
        sensory: of the sensory memory.
        pixel: of the shared pixel feature.
        embed: of the object transformer and of the decoder at stride 16.
        up: of the decoder at strides 8 and 4.
        queries: object queries a target, half on the foreground and half on the background.
        blocks: of the object transformer.
        heads: of its attention.
        feedforward: hidden width of its query MLP.
        mask_depths: blocks of the mask encoder's stages.
        mask_widths: their channels.
        frozen_norm: batch norms of the mask encoder keep their statistics in training.
        discriminative: discriminative queries in place of the first attention of each block; None = Cutie's.
    """

    key: int = 64
    value: int = 256
    sensory: int = 256
    pixel: int = 256
    embed: int = 256
    up: tuple[int, int] = (128, 128)
    queries: int = 16
    blocks: int = 3
    heads: int = 8
    feedforward: int = 2048
    mask_depths: tuple[int, int, int] = (2, 2, 2)
    mask_widths: tuple[int, int, int] = (64, 128, 256)
    frozen_norm: bool = True
    discriminative: DiscriminativeSettings | None = None

    def __post_init__(self) -> None:
        if self.queries < 2 or self.queries % 2:
            raise InputError(f"queries is {self.queries}; half of them see the foreground: give an even number")
        if self.embed % 4 or self.embed % self.heads:
            raise InputError(f"embed is {self.embed}; it must be divisible by 4 and by the {self.heads} heads")
        if self.discriminative and self.embed % self.discriminative.heads:
            raise InputError(
                f"embed is {self.embed}, not divisible by {self.discriminative.heads} discriminative heads"
            )


@dataclass(frozen=True)
class LongTermSettings:
    """Consolidation of old working frames (XMem, section 3.4); the defaults are Cutie's.

    Attributes:
        keep: frames left after a consolidation, the first included.
        prototypes: tokens made of the frames that go.
        tokens: most long-term tokens ever held.
        spare: tokens freed at once, least used first, when they would be too many.
    """

    keep: int = 5
    prototypes: int = 128
    tokens: int = 10000
    spare: int = 2000


@dataclass(frozen=True)
class MemorySettings:
    """What is remembered and when; the defaults are the paper's.

    Attributes:
        every: a frame in so many is memorised.
        frames: held at once, the first included; the oldest of the others goes (10 is usual with ``long_term``).
        top_k: memory tokens that a query token reads.
        stagger: updates of the sensory memory between two memorised frames, evenly spaced.
        skip_absent: leave out frames on which no target was found.
        long_term: None = what leaves the working memory is forgotten.
    """

    every: int = 5
    frames: int = 5
    top_k: int = 30
    stagger: int = 5
    skip_absent: bool = True
    long_term: LongTermSettings | None = None

    def __post_init__(self) -> None:
        if min(self.every, self.frames, self.top_k, self.stagger) < 1:
            raise InputError("every, frames, top_k and stagger of the memory must be at least 1")
        long = self.long_term
        if long and not 1 <= long.keep < self.frames:
            raise InputError(f"long-term memory keeps {long.keep} of {self.frames} frames; keep at least 1 and fewer")
        if long and long.prototypes + long.spare >= long.tokens:
            raise InputError(
                f"long-term memory of {long.tokens} tokens has no room beside {long.prototypes} prototypes and "
                f"{long.spare} spare; give it more tokens"
            )


def nano(discriminative: DiscriminativeSettings | None = None, queries: int = 8, blocks: int = 2) -> CoreSettings:
    """A core that trains on two CPU cores."""
    return CoreSettings(
        key=32,
        value=64,
        sensory=64,
        pixel=64,
        embed=64,
        up=(48, 32),
        queries=queries,
        blocks=blocks,
        heads=4,
        feedforward=256,
        mask_depths=(1, 1, 1),
        mask_widths=(16, 32, 64),
        frozen_norm=False,
        discriminative=discriminative,
    )
