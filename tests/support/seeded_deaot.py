"""Seeded weights and clips on which the official DeAOT code was run (docs/parity.md).

A value depends on the seed and on the parameter's name here, so that the same weights can be put into the official
model, whose names are translated, and into ours, on any machine.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from common.nn.memory_policy import LeastRelevant
from common.synthetic import SyntheticClips
from common.video import Video
from methods.hqsmem.deaot.network import DeAOT
from methods.hqsmem.deaot.weights import from_released
from methods.hqsmem.settings import VARIANTS, DeAOTSettings, MemorySettings, Variant
from methods.hqsmem.tracker import Tracker

SMALL = DeAOTSettings("nano", layers=2, width=16, key=8, window=3, drop_path=0.0, dropout=0.0)


@dataclass(frozen=True)
class Case:
    """One parity run.

    Attributes:
        variant: the network.
        official: the released program's name of its settings.
        gap: frames between long-term writes, None = reference frames only.
        skip: age of the short-term memory, in frames.
        objects: targets.
        late: the last target joins at this frame, 0 = the first.
        capacity: DMAOT's memory per object with so many frames each, None = whole frames.
        frames: of the clip.
        size: (H, W) of the clip.
        seed: of the weights.
    """

    variant: Variant
    official: str
    gap: int | None = 2
    skip: int = 1
    objects: int = 2
    late: int = 0
    capacity: int | None = None
    frames: int = 9
    size: tuple[int, int] = (113, 145)
    seed: int = 0


CASES = {
    "T": Case("deaot-t", "deaott", gap=None),
    "L": Case("deaot-l", "deaotl", seed=1),
    "L, short-term memory 2 frames back": Case("deaot-l", "deaotl", gap=3, skip=2, seed=2),
    "L, target joins": Case("deaot-l", "deaotl", objects=3, late=4, seed=3),
    "T, two engines": Case("deaot-t", "deaott", gap=4, objects=12, seed=4),
    "R50-L": Case("r50-deaot-l", "r50_deaotl", seed=5),
    "SwinB-L": Case("swinb-deaot-l", "swinb_deaotl", size=(112, 144), seed=6),
    "DM L": Case("deaot-l", "deaotl", gap=1, capacity=3, seed=7),
}


def seeded_value(name: str, shape: torch.Size, seed: int) -> Tensor:
    """Values of a parameter by its name in our network: unit gain, so that answers are neither empty nor full."""
    generator = torch.Generator().manual_seed(seed * 2**32 + zlib.crc32(name.encode()))
    noise = torch.randn(shape, generator=generator)
    if name.endswith("running_var"):
        return 1 + noise.abs()
    if len(shape) > 1:
        gain = 3.0 if name == "id_bank.weight" else 1.0
        return gain * noise / noise[0].numel() ** 0.5
    norm = ("norm" in name or "bn" in name or is_batch_norm(name)) and name.endswith("weight")
    return float(norm) + 0.1 * noise


def is_batch_norm(name: str) -> bool:
    """Whether a vector of a trunk without ``norm`` in its name is a norm's: in MobileNetV2 and shortcuts of ResNets."""
    return name.startswith(("encoder.features.", "encoder.trunk.")) and "conv1.weight" not in name


def seed_ours(case: Case) -> DeAOT:
    """A network with a case's weights."""
    net = DeAOT(VARIANTS[case.variant])
    state = {
        key: value
        if key.endswith(("num_batches_tracked", "relative_position_index"))
        else seeded_value(key, value.shape, case.seed)
        for key, value in net.state_dict().items()
    }
    net.load_state_dict(state)
    return net.eval()


def seed_official(state: Mapping[str, Tensor], case: Case) -> dict[str, Tensor]:
    """The same weights under released names, from a state dict that gives names and shapes."""
    out = {}
    for key, value in state.items():
        name = next(iter(from_released({key: value})))
        shape = value.shape[:2] if ".relative." in name and value.ndim == 4 else value.shape
        own = value if key.endswith("relative_position_index") else seeded_value(name, shape, case.seed)
        out[key] = own.view(value.shape)
    return out


def lively(settings: DeAOTSettings = SMALL, seed: int = 0) -> DeAOT:
    """A small network with seeded weights."""
    net = DeAOT(settings).eval()
    state = {
        k: v if k.endswith("num_batches_tracked") else seeded_value(k, v.shape, seed)
        for k, v in net.state_dict().items()
    }
    net.load_state_dict(state)
    return net


def labels_of(size: tuple[int, int], shift: int = 0) -> Tensor:
    """A map of two rectangles, 1 and 2."""
    labels = torch.zeros(size, dtype=torch.long)
    labels[4 + shift : 30 + shift, 5:30], labels[20:44, 30 + shift :] = 1, 2
    return labels


def tracker_of(case: Case, net: DeAOT) -> Tracker:
    """A tracker with a case's memory."""
    memory = MemorySettings(case.gap, case.capacity, per_object=case.capacity is not None, short_skip=case.skip)
    return Tracker(net, memory, LeastRelevant())


def case_video(case: Case) -> Video:
    """The generated clip of a case."""
    objects = case.objects if case.objects < 10 else case.objects // 2
    return SyntheticClips("easy", length=1, frames=case.frames, size=case.size, seed=31 + case.seed, objects=objects)[0]


def given_at(case: Case, video: Video, index: int) -> dict[int, Tensor]:
    """Masks given at a frame; the last target's may come late, with the shape that it had on the first frame.

    Where there are more targets than objects, the upper half of an object is a target of its own.
    """
    masks = {prompt.target: prompt.mask for prompt in video.prompts if prompt.mask is not None}
    for target, mask in list(masks.items()):
        if len(masks) < case.objects:
            rows = mask.any(1).nonzero()[:, 0]
            upper = mask & (torch.arange(len(mask)) <= rows.float().mean())[:, None]
            masks |= {len(masks) + 1: upper, target: mask & ~upper}
    last = max(masks)
    return {target: mask for target, mask in masks.items() if index == (case.late if target == last else 0)}


def summarise(logits: list[Tensor]) -> list[list[list[float]]]:
    """A few numbers of every frame and channel: mean, and the values at three places."""
    places = ((0.3, 0.3), (0.5, 0.5), (0.8, 0.7))
    return [
        [
            [
                round(float(x), 6)
                for x in (plane.mean(), *(plane[int(y * len(plane)), int(x * plane.shape[1])] for y, x in places))
            ]
            for plane in planes
        ]
        for planes in logits
    ]
