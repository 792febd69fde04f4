"""Weights in and out: SAM 2's to start from, or VQ-SAM's own."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from common.checkpoints import load_state, load_strict
from common.nn.sam2.weights import load_sam2
from methods.vqsam.model import VQSAMNetwork, rename_core

NEW = ("stt.", "generate.")  # what VQ-SAM has and SAM 2 has not
OURS = "model."  # where the network lies in a Lightning checkpoint


def load(model: VQSAMNetwork, weights: str | Path) -> Path:
    """Load weights; every key and size must fit.

    Args:
        weights: ``nano`` (the SAM 2 weights in this repository), any file that ``load_sam2`` reads, whose STT and
            memory generator then keep their initial values, or a VQ-SAM checkpoint (``.safetensors``, ``.ckpt``).

    Returns:
        The file that was read.

    Raises:
        InputError: no such file, or keys that do not fit: another size, other stages or another fusion, by name.
    """
    path = Path(weights)
    if path.is_file():
        state = _own(load_state(path))
        if any(key.startswith(NEW) for key in state):
            load_strict(model, {key: value.float() for key, value in state.items()}, path)
            return path
    return load_sam2(model.sam2, weights)


def export(checkpoint: str | Path, path: str | Path) -> None:
    """Write the network of a VQ-SAM checkpoint in half precision, as safetensors."""
    state = _own(load_state(checkpoint))
    save_file({key: value.half().contiguous().clone() for key, value in state.items()}, path)


def _own(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The network's names, whether or not it lies in a LightningModule."""
    inside = {key.removeprefix(OURS): value for key, value in state.items() if key.startswith(OURS)}
    state = inside or dict(state)
    rename_core(state)
    return state
