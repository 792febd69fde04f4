"""Settings of the network and of its memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from common.errors import InputError


@dataclass(frozen=True)
class AdapterSettings:
    """Variants of equations 1 to 3 where the paper and its released code differ; the README gives reasons.

    Attributes:
        roles: of equation 2. ``code``: the CNN's tokens are the queries and sample the ViT's map. ``paper``: as
            printed, the ViT's tokens are the queries, sample the CNN's maps of both strides, and the result is added
            at stride 16.
        residual: of equation 3. ``code``: ConvFFN of the normalised sum; ``paper``: of the sum and the block's input.
        points: places that a head of the deformable attention samples on a level.
        extra: further spatial blocks after the last group of the ViT.
        drop_path: probability that the ConvFFN of a block is skipped for a frame in training.

    Raises:
        InputError: a number out of its range.
    """

    roles: Literal["code", "paper"] = "code"
    residual: Literal["code", "paper"] = "code"
    points: int = 4
    extra: int = 2
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        if self.points < 1 or self.extra < 0 or not 0 <= self.drop_path < 1:
            raise InputError(
                f"adapter: points {self.points} is at least 1, extra {self.extra} at least 0, "
                f"drop_path {self.drop_path} a probability under 1"
            )


@dataclass(frozen=True)
class DiscriminativeSettings:
    """Variants of the discriminative query (equations 4 to 6) where the paper and its released code differ.

    Attributes:
        heads: the arg-max of equation 4 is taken per head; 1 = one over all channels, as printed.
        gathered: the feature that equation 4 picks: ``encoded`` = normalised, with position (as released), ``raw`` =
            without either (as printed).
        project: W_p of equation 5 (as released); without it the plain product (as printed).
        norm: axis of the L2 norm of equation 5: ``channels``, or ``queries`` as released.
    """

    heads: int = 8
    gathered: Literal["encoded", "raw"] = "encoded"
    project: bool = True
    norm: Literal["channels", "queries"] = "channels"


@dataclass(frozen=True)
class CoreSettings:
    """Widths and counts of the network; the defaults are those of Cutie-base (Cheng et al., CVPR 2024).

    Attributes:
        key: channels of keys and selection.
        value: channels of the pixel memory's values.
        sensory: channels of the sensory memory.
        pixel: channels of the pixel feature that all targets share.
        embed: channels of the object transformer and of the decoder at stride 16.
        up: channels of the decoder at strides 8 and 4.
        queries: object queries of a target, half on the foreground and half on the background.
        blocks: blocks of the object transformer.
        heads: attention heads of the object transformer.
        feedforward: hidden width of the query MLP.
        mask_depths: residual blocks of the mask encoder's stages.
        mask_widths: channels of the mask encoder's stages.
        frozen_norm: batch norms of the mask encoder keep their statistics in training.
        discriminative: use discriminative queries in place of the masked attention of each block; None = Cutie's.

    Raises:
        InputError: an odd number of queries, or heads that do not divide ``embed``.
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
    """Consolidation of working memory into long-term memory (XMem, section 3.4); the defaults are Cutie's.

    Attributes:
        keep: frames left in working memory after a consolidation, the first included.
        prototypes: tokens made of the frames that are consolidated.
        tokens: largest number of long-term tokens.
        spare: number of tokens freed at once, least used first, when the next prototypes might not fit.
    """

    keep: int = 5
    prototypes: int = 128
    tokens: int = 10000
    spare: int = 2000


@dataclass(frozen=True)
class MemorySettings:
    """What is memorised and when; the defaults are the paper's.

    Attributes:
        every: interval at which frames are memorised, in frames.
        frames: largest number of frames in working memory, the first included, which is never removed; of the others
            the oldest is (10 is usual with ``long_term``).
        top_k: number of memory tokens that a query token reads.
        stagger: number of updates of the sensory memory between two memorised frames, evenly spaced.
        skip_absent: do not memorise frames on which no target is predicted.
        long_term: consolidate what leaves the working memory; None = discard it.

    Raises:
        InputError: a number out of its range, or long-term memory without room for its prototypes.
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
                f"long-term memory of {long.tokens} tokens has no room for {long.prototypes} prototypes and "
                f"{long.spare} spare; give it more tokens"
            )


def nano(discriminative: DiscriminativeSettings | None = None, queries: int = 8, blocks: int = 2) -> CoreSettings:
    """Return the settings of a network small enough to be trained on two CPU cores.

    Args:
        discriminative: as in ``CoreSettings``.
        queries: object queries of a target.
        blocks: blocks of the object transformer.
    """
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
