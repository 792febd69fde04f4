"""Seeded SAM 2 weights and clips on which the official codes were run (docs/parity.md).

A value depends on the seed and on the parameter's name here, so that the same weights can be put into the official
model, whose names are translated, and into ours, on any machine.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from common.nn.sam2 import SAM2
from common.nn.sam2.weights import from_official
from common.synthetic import SyntheticClips
from common.video import Prompt, Video
from methods.sam2long.dam4sam import DAM4SAMSettings
from methods.sam2long.picks import TreeSettings
from methods.sam2long.samurai import SamuraiSettings
from methods.sam2long.session import MemorySettings

PAPER = TreeSettings()
FOURIER = "shared_image_embedding.positional_embedding"
POINTS = "prompt_encoder.point_embed.weight"


@dataclass(frozen=True)
class Case:
    """One parity run of Hiera tiny.

    Attributes:
        preset: of the generated clip.
        index: of the clip.
        seed: of the weights.
        visible: bias of the occlusion score: how sure the network is.
        iou: bias of the predicted IoU's logit, so that some frames pass δ_IoU and some do not.
        frames: of the clip.
        settings: of the memory.
        version: of SAM 2.
        side: of the network's input.
        start: frame on which the targets are prompted.
        targets: number of them.
        masks: added to the bias of the hypernetworks' outputs: negative values make the masks small and compact.
    """

    preset: str
    index: int
    seed: int
    visible: float
    iou: float
    frames: int = 16
    settings: MemorySettings = PAPER
    version: str = "2.1"
    side: int = 1024
    start: int = 0
    targets: int = 1
    masks: float = 0.0


CASES = {
    "certain": Case("occlusion", 0, 0, 5.0, 0.0, side=256),
    "uncertain": Case("occlusion", 1, 0, 1.0, -1.2, 4),
    "mixed": Case("reappear", 2, 0, 1.6, -0.6, settings=TreeSettings(confidence=1.8), side=256),
    "long": Case("occlusion", 1, 0, 1.0, -1.2, 32, side=256),
    "two pathways": Case("reappear", 2, 0, 1.6, -0.6, 32, TreeSettings(pathways=2, confidence=1.8), side=256),
    "four pathways": Case(
        "occlusion", 1, 0, 1.0, -0.5, 32, TreeSettings(pathways=4, iou_threshold=0.1), version="2", side=256, start=4
    ),
    "two targets": Case("occlusion", 3, 0, 1.0, -0.5, 24, side=256, targets=2),
}

FAMILY_CASES = {
    "samurai": Case("occlusion", 1, 0, 2.0, 0.5, 32, SamuraiSettings(motion_weight=0.25), side=256),
    "samurai uncertain": Case("reappear", 2, 0, 0.3, 0.0, 28, SamuraiSettings(motion_weight=0.25), side=256),
    "dam4sam": Case("distractor", 1, 0, 2.0, 2.0, 32, DAM4SAMSettings(), side=256),
    "dam4sam distractors": Case("occlusion", 1, 0, 2.0, 2.0, 28, DAM4SAMSettings(), side=256, masks=-0.05),
    "dam4sam two targets": Case("occlusion", 3, 0, 2.0, 2.0, 20, DAM4SAMSettings(), side=256, targets=2, masks=-0.05),
}


def seeded_value(name: str, shape: torch.Size, case: Case) -> Tensor:
    """Values of a parameter by its name in our model."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode(), case.seed))  # only 32 bits are used
    noise = torch.randn(shape, generator=generator)
    if name.endswith("pred_obj_score_head.proj_out.bias"):
        return noise * 0 + case.visible
    if name.endswith("iou_prediction_head.proj_out.bias"):
        return noise * 0 + case.iou
    if "output_hypernetworks_mlps" in name and name.endswith("proj_out.bias"):
        return 0.1 * noise + case.masks
    if "norm" in name and name.endswith("weight"):
        return 1 + 0.1 * noise
    if len(shape) > 1:
        return noise / (noise[0].numel() if len(shape) > 2 or "embed" not in name else shape[-1]) ** 0.5
    return 0.1 * noise


def seed_ours(model: SAM2, case: Case) -> SAM2:
    """Put a case's weights into our model."""
    state = {}
    for name, value in model.net.state_dict().items():
        if name == POINTS:
            state[name] = torch.cat([seeded_value(f"{POINTS}.{i}", value[:1].shape, case) for i in range(len(value))])
        else:
            state[name] = seeded_value(FOURIER if name.endswith("positional_embedding") else name, value.shape, case)
    model.net.load_state_dict(state)
    return model.eval()


def seed_official(state: Mapping[str, Tensor], case: Case) -> dict[str, Tensor]:
    """The same weights under official names, from a state dict that gives names and shapes."""
    out = {}
    for key, value in state.items():
        if ".point_embeddings." in key:
            name = f"{POINTS}.{key.split('.')[2]}"
        else:
            name = next(iter(from_official({key: value})))
        out[key] = seeded_value(name, value.shape, case)
    return out


def case_video(case: Case) -> Video:
    """The generated clip of a case."""
    clips = SyntheticClips(case.preset, length=8, frames=case.frames, size=(120, 200), seed=11, objects=case.targets)
    return clips[case.index]


def case_prompts(case: Case) -> list[Prompt]:
    """The masks of the first frame, given on the frame on which the case starts."""
    return [replace(prompt, frame=case.start) for prompt in case_video(case).prompts]
