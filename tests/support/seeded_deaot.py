"""Seeded weights and clips on which the official DeAOT code was run (docs/parity.md), and small networks for tests.

A weight depends on the seed and on the parameter's name in this project, so that the same weights can be loaded into
the official model, whose names are translated, and into ours, on any machine.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from common.nn.memory_policy import Decision, KeepAll, LeastRelevant
from common.synthetic import SyntheticClips
from common.video import Video
from methods.hqsmem.deaot.network import DeAOT
from methods.hqsmem.deaot.weights import from_released
from methods.hqsmem.settings import VARIANTS, DeAOTSettings, MemorySettings, Variant
from methods.hqsmem.tracker import Tracker

SMALL = DeAOTSettings("nano", layers=2, width=16, key_width=8, window=3, drop_path=0.0, dropout=0.0)


@dataclass(frozen=True)
class Case:
    """One parity run.

    Attributes:
        variant: the network.
        official: name of its settings in the released code.
        gap: frames between long-term writes, None = reference frames only.
        skip: how many frames back the short-term memory lies.
        objects: number of targets.
        late: frame at which the last target is annotated.
        capacity: frames of each target in DMAOT's memory per object, None = whole frames without a limit.
        frames: length of the clip.
        size: (H, W) of the clip.
        seed: of the weights and, plus 31, of the clip.
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
    """Draw a parameter's values from its name and a seed; the gain is one, so that masks are neither empty nor full."""
    generator = torch.Generator().manual_seed(seed * 2**32 + zlib.crc32(name.encode()))
    noise = torch.randn(shape, generator=generator)
    if name.endswith("running_var"):
        return 1 + noise.abs()
    if len(shape) > 1:
        gain = 3.0 if name == "id_bank.weight" else 1.0
        return gain * noise / noise[0].numel() ** 0.5
    is_norm = "norm" in name or "bn" in name or is_batch_norm(name)
    return float(is_norm and name.endswith("weight")) + 0.1 * noise


def is_batch_norm(name: str) -> bool:
    """Return whether a vector belongs to a batch norm that has no "norm" in its name: MobileNetV2, ResNet shortcuts."""
    return name.startswith(("encoder.features.", "encoder.trunk.")) and "conv1.weight" not in name


def seed_ours(case: Case) -> DeAOT:
    """Build the network of a case, with its weights."""
    network = DeAOT(VARIANTS[case.variant])
    state = {
        key: value
        if key.endswith(("num_batches_tracked", "relative_position_index"))
        else seeded_value(key, value.shape, case.seed)
        for key, value in network.state_dict().items()
    }
    network.load_state_dict(state)
    return network.eval()


def seed_official(state: Mapping[str, Tensor], case: Case) -> dict[str, Tensor]:
    """Return a case's weights under the released names, from a state dict with those names and shapes."""
    out = {}
    for key, value in state.items():
        name = next(iter(from_released({key: value})))
        shape = value.shape[:2] if ".relative." in name and value.ndim == 4 else value.shape
        seeded = value if key.endswith("relative_position_index") else seeded_value(name, shape, case.seed)
        out[key] = seeded.view(value.shape)
    return out


def small_network(settings: DeAOTSettings = SMALL, seed: int = 0) -> DeAOT:
    """Build a small network with seeded weights."""
    network = DeAOT(settings).eval()
    state = {
        k: v if k.endswith("num_batches_tracked") else seeded_value(k, v.shape, seed)
        for k, v in network.state_dict().items()
    }
    network.load_state_dict(state)
    return network


class RecordingPolicy:
    """A policy that keeps all frames and records its arguments."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[float], list[float], list[bool], int | None]] = []

    def choose(self, ages: Tensor, relevance: Tensor, protected: Tensor, capacity: int | None) -> Decision:
        """Record ages, relevance rounded to four digits, protected frames and the capacity."""
        rounded = [round(x, 4) for x in relevance.tolist()]
        self.calls.append((ages.tolist(), rounded, protected.tolist(), capacity))
        return KeepAll().choose(ages, relevance, protected, capacity)


def labels_of(size: tuple[int, int], shift: int = 0) -> Tensor:
    """Draw a label map of two rectangles, 1 and 2."""
    labels = torch.zeros(size, dtype=torch.long)
    labels[4 + shift : 30 + shift, 5:30], labels[20:44, 30 + shift :] = 1, 2
    return labels


def tracker_of(case: Case, network: DeAOT) -> Tracker:
    """Build a tracker with the memory of a case."""
    memory = MemorySettings(case.gap, case.capacity, per_object=case.capacity is not None, short_term_skip=case.skip)
    return Tracker(network, memory, LeastRelevant())


def case_video(case: Case) -> Video:
    """Generate the clip of a case."""
    objects = case.objects if case.objects < 10 else case.objects // 2
    return SyntheticClips("easy", length=1, frames=case.frames, size=case.size, seed=31 + case.seed, objects=objects)[0]


def prompt_masks_at(case: Case, video: Video, index: int) -> dict[int, Tensor]:
    """Return the annotated masks of a frame by target.

    The last target may be annotated late, with its mask of the first frame. Where there are more targets than objects,
    objects are cut into two targets, their upper and their lower half.
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
    """Summarise every frame and channel by its mean and its values at three places, to six digits."""
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
