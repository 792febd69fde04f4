"""Settings of the DeAOT base tracker: sizes of the network, and when its memory is updated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from common.errors import InputError

EncoderName = Literal["nano", "mobilenetv2", "resnet50", "swin_base"]
Variant = Literal["nano", "deaot-t", "deaot-s", "deaot-b", "deaot-l", "r50-deaot-l", "swinb-deaot-l"]


@dataclass(frozen=True)
class DeAOTSettings:
    """Sizes of the network; the defaults are those of DeAOT-L (Yang & Yang, arXiv 2210.09782).

    Attributes:
        encoder: the image encoder.
        layers: number of gated propagation layers.
        width: channels of each of the two branches, visual and ID; divisible by 16.
        key_width: channels of queries and keys.
        expansion: ratio of the channels of values and gates to ``width``.
        window: side of the short-term attention window, in tokens, odd.
        max_objects: number of identities, the most targets of one engine.
        temporal: whether long-term memory has RMem's temporal positional embedding, for VOTSt.
        drop_path: probability that a training sample skips the residual of self-propagation.
        dropout: probability that a channel is dropped after a depth-wise convolution.

    Raises:
        InputError: an even window, a width that the group norms cannot divide, or a size below 1.
    """

    encoder: EncoderName = "mobilenetv2"
    layers: int = 3
    width: int = 256
    key_width: int = 128
    expansion: int = 2
    window: int = 15
    max_objects: int = 10
    temporal: bool = False
    drop_path: float = 0.1
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.width % 16:
            raise InputError(f"width is {self.width}; it must be divisible by 16, for the decoder's group norms")
        if self.window % 2 == 0 or min(self.layers, self.key_width, self.expansion, self.max_objects) < 1:
            raise InputError("window must be odd, and layers, key_width, expansion and max_objects at least 1")


# DeAOT-B and DeAOT-L are one network; they differ in the long-term memory, see ``memory_of``.
VARIANTS: dict[Variant, DeAOTSettings] = {
    "nano": DeAOTSettings(
        "nano", max_objects=3, layers=2, width=96, key_width=48, window=7, drop_path=0.0, dropout=0.0
    ),
    "deaot-t": DeAOTSettings(layers=1),
    "deaot-s": DeAOTSettings(layers=2),
    "deaot-b": DeAOTSettings(),
    "deaot-l": DeAOTSettings(),
    "r50-deaot-l": DeAOTSettings("resnet50"),
    "swinb-deaot-l": DeAOTSettings("swin_base"),
}


@dataclass(frozen=True)
class MemorySettings:
    """When frames are written to memory, and how many are stored.

    Attributes:
        gap: frames between two writes to the long-term memory. None writes reference frames only (DeAOT-T, S and B);
            ``length`` is a thirtieth of the video, at least 5 (RMem's rule, for VOTS and long videos).
        capacity: most frames in the long-term memory, reference frames included; None is no limit. With ``per_object``
            it applies to each target.
        per_object: store each target and the background in a memory of its own (DMAOT).
        short_term_skip: how many frames back the short-term memory lies.
        age_unit: unit of a stored frame's age: ``frames``, or ``updates``, the writes to the long-term memory.

    Raises:
        InputError: a gap, a skip or a capacity below 1.
    """

    gap: int | Literal["length"] | None = 5
    capacity: int | None = None
    per_object: bool = False
    short_term_skip: int = 1
    age_unit: Literal["frames", "updates"] = "frames"

    def __post_init__(self) -> None:
        if (isinstance(self.gap, int) and self.gap < 1) or self.short_term_skip < 1:
            raise InputError("gap and short_term_skip of the memory must be at least 1")
        if self.capacity is not None and self.capacity < 1:
            raise InputError(f"capacity of the memory is {self.capacity}; it must be at least 1, or null for no limit")

    def at(self, length: int | None) -> MemorySettings:
        """Resolve ``gap: length`` to max(5, round(L / 30)), the rule of RMem's evaluation.

        HQ-SMem's own function of L is not printed.

        Args:
            length: L, frames of the video; where it is None the gap is 5.
        """
        if self.gap != "length":
            return self
        return replace(self, gap=5 if length is None else max(5, round(length / 30)))


def memory_of(variant: Variant) -> MemorySettings:
    """Return the memory that a variant is published with: DeAOT-T, S and B store reference frames only."""
    return MemorySettings(gap=None if variant in ("deaot-t", "deaot-s", "deaot-b") else 5)
