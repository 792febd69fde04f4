"""Seeded SAM 2 weights and clips on which the official SAM2Long was run (docs/parity.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from common.video import Video
from common.video.synthetic import SyntheticClips
from methods.sam2long.tree import TreeSettings


@dataclass(frozen=True)
class Case:
    """One parity run: SAM 2.1 tiny at 1024 pixels."""

    preset: str
    index: int
    seed: int  # of the weights
    visible: float  # added to the occlusion score: how sure the network is
    iou: float  # added to the IoU head, so that some frames pass δ_IoU and some do not
    frames: int = 18
    settings: TreeSettings = TreeSettings()


CASES = {
    "certain": Case("occlusion", 0, 0, 5.0, 0.0),
    "uncertain": Case("occlusion", 1, 1, 1.0, -0.8),
    "mixed": Case("reappear", 2, 2, 1.6, -0.6, settings=TreeSettings(confidence=1.385)),
}


def seeded_state(state: Mapping[str, Tensor], case: Case) -> dict[str, Tensor]:
    """Random values for every matrix and filter of an official state dict; vectors keep their initial values."""
    generator = torch.Generator().manual_seed(case.seed)
    out = dict(state)
    for name in sorted(state):
        value = state[name]
        if value.ndim > 1 and "norm" not in name:
            fan = value[0].numel() if value.ndim > 2 or "embed" not in name else value.shape[-1]
            out[name] = torch.randn(value.shape, generator=generator) / fan**0.5
    head = "sam_mask_decoder.{}.layers.2."
    out[head.format("pred_obj_score_head") + "bias"] = state[head.format("pred_obj_score_head") + "bias"] + case.visible
    out[head.format("iou_prediction_head") + "bias"] = state[head.format("iou_prediction_head") + "bias"] + case.iou
    return out


def case_video(case: Case) -> Video:
    """The generated clip of a case, one target."""
    return SyntheticClips(case.preset, length=8, frames=case.frames, size=(120, 200), seed=11, objects=1)[case.index]
