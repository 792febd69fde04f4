"""Sizes of the DeAOT base tracker and the rhythm of its memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from common.errors import InputError

EncoderName = Literal["nano", "mobilenetv2", "resnet50", "swin_base"]
Variant = Literal["nano", "deaot-t", "deaot-s", "deaot-b", "deaot-l", "r50-deaot-l", "swinb-deaot-l"]


@dataclass(frozen=True)
class DeAOTSettings:
    """Widths and counts; the defaults are those of DeAOT-L (Yang & Yang, arXiv 2210.09782).

    Attributes:
        encoder: the image encoder.
        layers: of gated propagation.
        width: of each of the two branches, visual and ID.
        key: of queries and keys.
        expand: width of values and gates over ``width``.
        window: side of the short-term window, in tokens, odd.
        objects: most targets of one engine.
        temporal: temporal positional embedding of the long-term memory (RMem), for VOTSt.
        drop_path: probability that a training sample skips a residual of self propagation.
        dropout: probability that a channel is dropped after a depth-wise convolution.
    """

    encoder: EncoderName = "mobilenetv2"
    layers: int = 3
    width: int = 256
    key: int = 128
    expand: int = 2
    window: int = 15
    objects: int = 10
    temporal: bool = False
    drop_path: float = 0.1
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.width % 16:
            raise InputError(f"width is {self.width}; it must be divisible by 16, for the decoder's group norms")
        if self.window % 2 == 0 or min(self.layers, self.key, self.expand, self.objects) < 1:
            raise InputError("window must be odd, and layers, key, expand and objects at least 1")


VARIANTS: dict[Variant, DeAOTSettings] = {
    "nano": DeAOTSettings("nano", objects=3, layers=2, width=96, key=48, window=7, drop_path=0.0, dropout=0.0),
    "deaot-t": DeAOTSettings(layers=1),
    "deaot-s": DeAOTSettings(layers=2),
    "deaot-b": DeAOTSettings(),
    "deaot-l": DeAOTSettings(),
    "r50-deaot-l": DeAOTSettings("resnet50"),
    "swinb-deaot-l": DeAOTSettings("swin_base"),
}


@dataclass(frozen=True)
class MemorySettings:
    """When frames are remembered, and how many.

    Attributes:
        gap: frames between two long-term writes; None = reference frames only (DeAOT-T/S/B); ``length`` = a thirtieth
            of the video, at least 5 (RMem's rule, for VOTS and long videos).
        capacity: most frames of the bank, references included; None = no limit. With ``per_object``, of each target.
        per_object: DMAOT's decoupled memory, one list of frames for each target and the background.
        short_skip: the short-term memory is the frame so many before the current one.
        age_unit: what the policy counts a frame's age in: frames, or long-term writes of the bank.
    """

    gap: int | Literal["length"] | None = 5
    capacity: int | None = None
    per_object: bool = False
    short_skip: int = 1
    age_unit: Literal["frames", "updates"] = "frames"

    def __post_init__(self) -> None:
        if (isinstance(self.gap, int) and self.gap < 1) or self.short_skip < 1:
            raise InputError("gap and short_skip of the memory must be at least 1")
        if self.capacity is not None and self.capacity < 1:
            raise InputError(f"capacity of the memory is {self.capacity}; it must be at least 1, or null for no limit")

    def at(self, length: int | None) -> MemorySettings:
        """With ``gap`` as a number, for a video of ``length`` frames; 5 where the length is not known.

        Source: max(5, round(L / 30)), RMem's evaluation; HQ-SMem's own function of L is not printed.
        """
        if self.gap != "length":
            return self
        return replace(self, gap=5 if length is None else max(5, round(length / 30)))


def memory_of(variant: Variant) -> MemorySettings:
    """The memory that a variant is published with: T, S and B remember reference frames only."""
    return MemorySettings(gap=None if variant in ("deaot-t", "deaot-s", "deaot-b") else 5)
