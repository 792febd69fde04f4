"""The ``sam2`` package for parity tests: networks of equal seeded weights, and what it needs that is not installed.

The image predictor and the mask generator of the package import five names of torchvision, which the suite does
without; ``package_module`` supplies them from their documented definitions while such a module is imported.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import sys
from collections import defaultdict
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from common.nn.sam2 import SAM2
from common.nn.sam2.postprocess import PACKAGE, PLAIN
from common.nn.sam2.weights import from_official

CONFIGS = {"2": "configs/sam2/sam2_hiera_t.yaml", "2.1": "configs/sam2.1/sam2.1_hiera_t.yaml"}
SIDE = 128  # of the image predictors
VIDEO_SIDE = 256


class ToTensor:
    """An image (H, W, C) as float (C, H, W); uint8 divided by 255."""

    def __call__(self, image: Any) -> Tensor:
        array = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        return array.float() / 255 if array.dtype == torch.uint8 else array


class Resize(nn.Module):
    """Antialiased bilinear resizing of float (..., C, H, W)."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.height, self.width = size

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[-2] == self.height and image.shape[-1] == self.width:
            return image
        size = [self.height, self.width]
        return F.interpolate(image[None], size, mode="bilinear", align_corners=False, antialias=True)[0]


class Normalize(nn.Module):
    """(image - mean) / std by channel."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.mean, self.std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]

    def forward(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std


def box_area(boxes: Tensor) -> Tensor:
    """Areas (N,) of boxes (N, 4)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def batched_nms(boxes: Tensor, scores: Tensor, categories: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression, one pair at a time; all boxes are of one category here."""
    assert not categories.any()
    kept: list[int] = []
    rows = boxes.tolist()

    def iou(a: list[float], b: list[float]) -> float:
        width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
        height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        union = sum((r[2] - r[0]) * (r[3] - r[1]) for r in (a, b)) - width * height
        return width * height / union if union else 0.0

    for row in sorted(range(len(rows)), key=lambda i: -float(scores[i])):
        if all(iou(rows[row], rows[other]) <= iou_threshold for other in kept):
            kept.append(row)
    return torch.tensor(kept, dtype=torch.long)


def package_module(name: str) -> ModuleType:
    """Import a module of the package that imports torchvision."""
    if name in sys.modules:
        return sys.modules[name]
    parts: dict[str, dict[str, Any]] = {
        "torchvision": {},
        "torchvision.ops": {},
        "torchvision.ops.boxes": {"batched_nms": batched_nms, "box_area": box_area},
        "torchvision.transforms": {"Normalize": Normalize, "Resize": Resize, "ToTensor": ToTensor},
    }
    absent = [part for part in parts if part not in sys.modules]
    for part in absent:
        sys.modules[part] = ModuleType(part)
        vars(sys.modules[part]).update(parts[part])
    try:
        return importlib.import_module(name)
    finally:
        for part in absent:
            del sys.modules[part]


def connected_components(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Labels and areas of 8-connected components (N, 1, H, W), which the package has for CUDA only."""
    labels, areas = torch.zeros(masks.shape, dtype=torch.int32), torch.zeros(masks.shape, dtype=torch.int32)
    for row, mask in enumerate(masks[:, 0].numpy()):
        found, _ = ndimage.label(mask, np.ones((3, 3)))
        areas[row, 0] = torch.from_numpy(np.where(found > 0, np.bincount(found.ravel())[found], 0).astype(np.int32))
        labels[row, 0] = torch.from_numpy(found)
    return labels, areas


def remembered(encode: Callable[[Tensor], Any], known: dict[bytes, Any]) -> Callable[[Tensor], Any]:
    """An image encoder that computes each image once: most tests of a module look at the same few frames."""

    def look_up(images: Tensor) -> Any:
        key = hashlib.sha1(images.numpy().tobytes()).digest()
        if key not in known:
            known[key] = encode(images)
        features = known[key]
        if isinstance(features, dict):  # of the package, which may put other entries into it
            return {name: list(value) if isinstance(value, list) else value for name, value in features.items()}
        return features

    return look_up


ENCODED: dict[tuple[str, int, str], dict[bytes, Any]] = defaultdict(dict)  # whose, side, version -> image -> features


@functools.lru_cache(maxsize=2)
def seeded_pair(postprocess: bool = True, side: int = SIDE, version: str = "2.1") -> tuple[Any, SAM2]:
    """The package's video predictor, which is a network too, and ours on equal random weights, the object visible."""
    build = importlib.import_module("sam2.build_sam")
    official = build.build_sam2_video_predictor(
        CONFIGS[version],
        None,
        device="cpu",
        apply_postprocessing=postprocess,
        hydra_overrides_extra=[f"++model.image_size={side}"],
    )
    generator = torch.Generator().manual_seed(0)
    state = official.state_dict()
    for name, value in state.items():
        if value.ndim > 1 and "norm" not in name:
            fan = value[0].numel() if value.ndim > 2 or "embed" not in name else value.shape[-1]
            state[name] = torch.randn(value.shape, generator=generator) / fan**0.5
    state["sam_mask_decoder.pred_obj_score_head.layers.2.bias"] += 1.0
    official.load_state_dict(state)
    ours = SAM2("tiny", version, side).eval()
    ours.net.load_state_dict(from_official(state))
    ours.predictor_options = PACKAGE if postprocess else PLAIN
    # post-processing does not change the weights
    official.forward_image = remembered(official.forward_image, ENCODED["official", side, version])
    ours.encode = remembered(ours.encode, ENCODED["ours", side, version])  # type: ignore[method-assign]
    return official, ours
