"""Networks for the predictors, by the configuration names of the ``sam2`` package and from weights on this machine."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.errors import InputError
from common.nn.sam2 import SAM2
from common.nn.sam2.architecture import sam2_from
from common.nn.sam2.postprocess import PACKAGE, PLAIN

_CONFIG = re.compile(r"(?:^|.*/)sam2(\.1)?_hiera_(t|s|b\+|l)(?:\.yaml)?$")
_SIZES = {"t": "tiny", "s": "small", "b+": "base_plus", "l": "large"}
_OPTIONS = {  # name in the package -> field of PostProcessing
    "fill_hole_area": "hole_area",
    "binarize_mask_from_pts_for_mem_enc": "binarize_clicks",
    "clear_non_cond_mem_around_input": "clear_around_input",
    "max_cond_frames_in_attn": "max_prompted_frames",
    "sam_mask_decoder_extra_args.dynamic_multimask_via_stability": "dynamic_multimask",
}
VIDEO_OPTIONS = ("non_overlap_masks", "add_all_frames_to_correct_as_cond")


def find_network(model: nn.Module) -> SAM2:
    """Return the ``SAM2`` of a model: itself, or its attribute ``network``.

    Args:
        model: a ``SAM2``, or a module with one, e.g. ``SAM2Long``.

    Raises:
        InputError: there is none.
    """
    network = getattr(model, "network", model)
    if not isinstance(network, SAM2):
        raise InputError(f"{type(model).__name__} has no SAM 2; give a SAM2 network or a SAM2Long")
    return network


def build_sam2(
    config_file: str,
    ckpt_path: str | Path | None = None,
    device: str | torch.device = "cuda",
    mode: str = "eval",
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    **kwargs: Any,
) -> SAM2:
    """Build a network by the arguments of ``build_sam2`` in the ``sam2`` package.

    Args:
        config_file: a name of the package, e.g. ``configs/sam2.1/sam2.1_hiera_t.yaml``, which has the version and the
            size; no such file is read.
        ckpt_path: weights, see ``sam2_from``; None leaves the network random, with a warning.
        device: of the network.
        mode: ``eval`` or ``train``.
        hydra_overrides_extra: ``++model.image_size=N`` and the options of the predictors by their names in the package,
            e.g. ``++model.fill_hole_area=0``.
        apply_postprocessing: the package's defaults, ``PACKAGE``; otherwise ``PLAIN``.
        kwargs: ignored, as in the package.

    Raises:
        InputError: an unknown configuration or option, or weights that do not fit.
    """
    return build_network(config_file, ckpt_path, device, mode, hydra_overrides_extra, apply_postprocessing)[0]


def load_network(model_id: str | Path, device: str | torch.device = "cpu", **kwargs: Any) -> SAM2:
    """Load a network from weights on this machine.

    Args:
        model_id: a file or folder of weights, or a name that ``find_sam2`` knows, e.g. ``facebook/sam2.1-hiera-tiny``.
        device: of the network.
        kwargs: ignored.

    Raises:
        InputError: no such weights, or they are of no SAM 2.
    """
    network = sam2_from(model_id)
    network.predictor_options = PACKAGE
    return network.to(device).eval()


def build_network(
    config_file: str,
    ckpt_path: str | Path | None,
    device: str | torch.device,
    mode: str,
    overrides: Sequence[str],
    apply_postprocessing: bool,
) -> tuple[SAM2, dict[str, Any]]:
    """Build a network as ``build_sam2``, and return the arguments of ``VideoPredictor`` among the overrides too.

    Args:
        config_file: see ``build_sam2``.
        ckpt_path: see ``build_sam2``.
        device: of the network.
        mode: ``eval`` or ``train``.
        overrides: see ``build_sam2``.
        apply_postprocessing: see ``build_sam2``.

    Raises:
        InputError: see ``build_sam2``.
    """
    match = _CONFIG.match(str(config_file))
    if match is None:
        raise InputError(f"{config_file}: unknown configuration; write as in configs/sam2.1/sam2.1_hiera_t.yaml")
    side, options = None, PACKAGE if apply_postprocessing else PLAIN
    of_video: dict[str, Any] = {}
    for override in overrides:
        name, _, text = override.lstrip("+").removeprefix("model.").partition("=")
        if name == "image_size":
            side = int(text)
        elif name in _OPTIONS:
            changed: dict[str, Any] = {_OPTIONS[name]: _value(text)}
            options = replace(options, **changed)
        elif name in VIDEO_OPTIONS:
            of_video[name] = bool(_value(text))
        else:
            known = ", ".join(["image_size", *_OPTIONS, *VIDEO_OPTIONS])
            raise InputError(f"{override}: unknown option; known are {known}")
    size, version = _SIZES[match[2]], "2.1" if match[1] else "2"
    if ckpt_path is None:
        warnings.warn(f"{config_file}: no weights are given, the network is random", stacklevel=3)
        network = SAM2(size, version, side)
    else:
        network = sam2_from(ckpt_path, size, version, side)
    network.predictor_options = options
    return network.to(device).train(mode == "train"), of_video


def _value(text: str) -> bool | int:
    """Read ``true``, ``false`` or a number."""
    lowered = text.strip().lower()
    return lowered == "true" if lowered in ("true", "false") else int(lowered)
