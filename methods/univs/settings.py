"""Sizes of the network, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from common.errors import InputError

Backbone = Literal["nano", "resnet50", "swin-tiny", "swin-base", "swin-large"]
SelfAttention = Literal["sep", "sep-blocked", "sep-l2p", "all"]
Temporal = Literal["arbitrary", "fixed"]


@dataclass(frozen=True)
class TextSettings:
    """The CLIP text tower; the defaults are RN50x4's, whose weights the paper takes from RegionCLIP.

    Attributes:
        width, layers, heads: of its transformer; the MLP is four times as wide.
        outputs: of the projection, the size of a concept.
        context: longest text in tokens, start and end included.
        vocabulary: entries of the token table.
        hashed: words are numbered by their hash, without a vocabulary file; else by CLIP's BPE.
        templates: sentences that a name or an expression is put in and averaged over: CLIP's 81, or the first alone.
        frozen: never trained, always in eval mode. A tower that starts from nothing must be trained along.
    """

    width: int = 640
    layers: int = 12
    heads: int = 10
    outputs: int = 640
    context: int = 77
    vocabulary: int = 49408
    hashed: bool = False
    templates: Literal["clip", "plain"] = "clip"
    frozen: bool = True


@dataclass(frozen=True)
class UniVSSettings:
    """Widths, counts and readings; the defaults are the paper's with the released code's reading.

    Attributes:
        backbone: image backbone.
        hidden: channels of queries, maps and mask features, C.
        heads: of every attention.
        queries: learnable queries, N.
        layers: of the decoder; outputs are one more.
        feedforward: hidden width of the decoder's MLPs.
        encoder_layers, encoder_feedforward: of the pixel decoder.
        points: tokens of a visual prompt, R.
        temporal: temporal part of the position codes: ``arbitrary`` = the frame's index in the video over 128,
            ``fixed`` = its place in the clip over T.
        self_attention: who reads whom in the decoder: ``sep`` = learnable and prompt queries apart (equation 4),
            ``sep-blocked`` = moreover each target's prompt query only its own copies over time, ``sep-l2p`` = prompt
            queries read learnable ones too, ``all`` = everybody everybody. Expressions are always ``sep-blocked``
            under ``sep`` and ``sep-blocked``, as released.
        proca: prompt cross-attention (equation 3); without it a prompt query keeps its first position code.
        text: the text tower.
    """

    backbone: Backbone = "resnet50"
    hidden: int = 256
    heads: int = 8
    queries: int = 200
    layers: int = 9
    feedforward: int = 2048
    encoder_layers: int = 6
    encoder_feedforward: int = 1024
    points: int = 32
    temporal: Temporal = "arbitrary"
    self_attention: SelfAttention = "sep"
    proca: bool = True
    text: TextSettings = field(default_factory=TextSettings)

    def __post_init__(self) -> None:
        if self.hidden % 32 or self.hidden % self.heads:
            raise InputError(f"hidden is {self.hidden}; it must be divisible by 32 and by the {self.heads} heads")
        if min(self.queries, self.layers, self.encoder_layers, self.points) < 1:
            raise InputError("queries, layers, encoder_layers and points must be at least 1")


NANO = UniVSSettings(
    backbone="nano",
    hidden=96,
    heads=6,
    queries=32,
    layers=3,
    feedforward=384,
    encoder_layers=2,
    encoder_feedforward=192,
    text=TextSettings(64, 2, 4, 64, 32, 2048, hashed=True, templates="plain", frozen=False),
)


def preset(backbone: Backbone = "nano", **changes: Any) -> UniVSSettings:
    """Settings of a backbone: our ``nano``, or the paper's of the others, with ``changes``; None changes nothing."""
    base = NANO if backbone == "nano" else UniVSSettings(backbone)
    return replace(base, **{name: value for name, value in changes.items() if value is not None})
