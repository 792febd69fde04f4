"""``build_sam2_video_predictor``, as in the ``sam2`` package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from methods.sam2long.predictors.build import build_network
from methods.sam2long.predictors.video import VideoPredictor


def build_sam2_video_predictor(
    config_file: str,
    ckpt_path: str | Path | None = None,
    device: str | torch.device = "cuda",
    mode: str = "eval",
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    vos_optimized: bool = False,
    **kwargs: Any,
) -> VideoPredictor:
    """Build a video predictor by the arguments of the function of that name in the ``sam2`` package.

    Args:
        config_file: see ``build_sam2``.
        ckpt_path: see ``build_sam2``.
        device: of the network.
        mode: only ``eval``.
        hydra_overrides_extra: see ``build_sam2``.
        apply_postprocessing: the package's defaults, ``PACKAGE``; otherwise ``PLAIN``.
        vos_optimized: compile the image encoder with ``torch.compile``.
        kwargs: ignored, as in the package.

    Raises:
        InputError: see ``build_sam2``.
    """
    network, options = build_network(config_file, ckpt_path, device, mode, hydra_overrides_extra, apply_postprocessing)
    if vos_optimized:
        network.encode = torch.compile(network.encode)  # type: ignore[method-assign]
    return VideoPredictor(network, **options)
