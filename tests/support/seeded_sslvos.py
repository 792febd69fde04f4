"""Seeded weights and clips on which the official Cutie code was run (docs/parity.md).

A value depends on the seed and on the parameter's name here, so that the same weights can be put into the official
model, whose names are translated, and into ours, on any machine.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from common.synthetic import SyntheticClips
from common.video import Video
from methods.sslvos.cutie.core import SSLVOSNetwork
from methods.sslvos.encoders.base import resnet18, resnet50
from methods.sslvos.settings import CoreSettings, LongTermSettings, MemorySettings
from methods.sslvos.weights import from_cutie

THIN = CoreSettings(key=16, value=32, sensory=32, pixel=32, embed=32, up=(24, 24), queries=8, blocks=2, heads=4)
LONG = LongTermSettings(keep=2, prototypes=24, tokens=100, spare=30)


@dataclass(frozen=True)
class Case:
    """One parity run.

    Attributes:
        trunk: 18 or 50 layers.
        core: widths.
        memory: budget and rhythm.
        flip: mirror averaging.
        late: the second target joins at this frame.
        drop: the first target is dropped after this frame.
        frames: of the clip.
        seed: of the weights.
        gain: of matrices and filters; over 1, rounding grows from layer to layer.
        visible: added to the bias of the mask logits, so that targets are seen.
    """

    trunk: int = 18
    core: CoreSettings = THIN
    memory: MemorySettings = field(default_factory=lambda: MemorySettings(every=2, frames=3, skip_absent=False))
    flip: bool = False
    late: int = 0
    drop: int | None = None
    frames: int = 14
    seed: int = 0
    gain: float = 1.0
    visible: float = 0.0


CONSOLIDATES = MemorySettings(every=1, frames=4, top_k=20, skip_absent=False, long_term=LONG)
CASES = {
    "base": Case(50, CoreSettings(), frames=10, seed=7, gain=0.9, visible=1.7),
    "bank": Case(memory=MemorySettings(every=3, frames=3, top_k=10, stagger=2, skip_absent=False), seed=1),
    "long": Case(memory=CONSOLIDATES, seed=2),
    "late": Case(late=4, drop=9, seed=3),
    "late and long": Case(memory=replace(CONSOLIDATES, every=2), late=3, frames=20, seed=4),
    "flip": Case(flip=True, memory=CONSOLIDATES, frames=10, seed=5),
}


# Sharp similarities and mask heads: between nearly equal ones rounding decides, and then the runs part.
_GAINS = {"key_proj.key.weight": 10.0, "decoder.predict.weight": 1.5} | {
    f"transformer.heads.{i}.weight": 10.0 for i in range(4)
}


def seeded_value(name: str, shape: torch.Size, case: Case) -> Tensor:
    """Values of a parameter by its name in our core: unit gain, so that answers are neither empty nor full."""
    generator = torch.Generator().manual_seed(case.seed * 2**32 + zlib.crc32(name.encode()))
    noise = torch.randn(shape, generator=generator)
    if name.endswith("running_var"):
        return 1 + noise.abs()
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.long)
    if len(shape) > 1:
        gain = _GAINS.get(name, 1.0) * case.gain
        return gain * noise / (1 if "query" in name else noise[0].numel()) ** 0.5
    if name == "decoder.predict.bias":
        return 0.1 * noise + case.visible
    return (1 if "norm" in name or "bn" in name or "downsample.1" in name else 0) * name.endswith(
        "weight"
    ) + 0.1 * noise


def seed_ours(case: Case) -> SSLVOSNetwork:
    """A core with a case's weights."""
    core = SSLVOSNetwork(resnet50() if case.trunk == 50 else resnet18(), case.core)
    state = core.state_dict()
    core.load_state_dict({name: seeded_value(name, value.shape, case) for name, value in state.items()})
    return core.eval()


def seed_official(state: Mapping[str, Tensor], case: Case) -> dict[str, Tensor]:
    """The same weights under published names, from a state dict that gives names and shapes."""
    out = dict(state)
    for key, value in state.items():
        for name in from_cutie({key: value}):  # none for a table
            out[key] = seeded_value(name, value.shape, case)
    return out


def case_video(case: Case, targets: int = 2, size: tuple[int, int] = (120, 150)) -> Video:
    """The generated clip of a case, whose sides need padding."""
    return SyntheticClips("easy", length=1, frames=case.frames, size=size, seed=11 + case.seed, objects=targets)[0]


def prompts_at(case: Case, video: Video, index: int) -> dict[int, Tensor]:
    """Masks given at a frame; the second target's may come late, with the shape that it had on the first frame."""
    return {prompt.target: prompt.mask for prompt in video.prompts if index == (case.late if prompt.target == 2 else 0)}


def summarise(probs: list[Tensor]) -> list[list[list[float]]]:
    """A few numbers of every frame and channel: mean, and the values at three places."""
    places = ((30, 40), (60, 75), (90, 110))
    return [
        [[round(float(x), 6) for x in (plane.mean(), *(plane[y, x] for y, x in places))] for plane in prob]
        for prob in probs
    ]
