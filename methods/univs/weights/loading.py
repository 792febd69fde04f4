"""Published UniVS and Mask2Former checkpoints (detectron2's ``.pth`` and ``.pkl``) into the network."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from common.checkpoints import load_state, load_strict
from common.errors import InputError
from methods.univs.network.model import UniVSNetwork
from methods.univs.weights.renaming import from_published

OURS = "core."  # where the network lies in a Lightning checkpoint

_FRESH = r"\.proca\.|^language\.|^task\.|^decoder\.heads\.classes\."  # what Mask2Former does not have
_QUERIES = ("decoder.query", "decoder.query_code")


def load_published(core: UniVSNetwork, path: str | Path) -> Path:
    """Load a published UniVS or Mask2Former checkpoint; every key and size must fit.

    The text tower is in neither: it keeps its weights (see ``load_text``). Of Mask2Former the class head is left out,
    and its queries where their number differs; ProCA, Lang2Img, text layers and task vectors keep their initial values.

    Returns:
        The file that was read.

    Raises:
        InputError: no such file (with where the published ones come from), or keys that do not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"{path}: no such weights. The published files are linked at github.com/MinghanLi/UniVS (Model_zoo.md) and "
            "github.com/facebookresearch/Mask2Former (MODEL_ZOO.md); put one on disk and give its path"
        )
    state = load_pkl(path) if path.suffix == ".pkl" else load_state(path)
    own = core.state_dict()
    ours = from_published(state)
    kept = r"^text\.|\.num_batches_tracked$"
    if any(key.startswith("sem_seg_head.predictor.class_embed.") for key in state):
        kept = f"{kept}|{_FRESH}"
        ours = {key: value for key, value in ours.items() if not key.startswith("class_embed.")}
        if any(key in ours and ours[key].shape != own[key].shape for key in _QUERIES):
            ours = {key: value for key, value in ours.items() if key not in _QUERIES}
            kept = f"{kept}|^decoder\\.query"
    load_strict(core, {key: value for key, value in own.items() if re.search(kept, key)} | ours, path)
    return path


def load_weights(core: UniVSNetwork, path: str | Path) -> Path:
    """Load a published checkpoint or one of ours (``.ckpt``, ``.safetensors``); every key and size must fit.

    Returns:
        The file that was read.

    Raises:
        InputError: no such file, or keys that do not fit, by name.
    """
    path = Path(path)
    if path.suffix != ".pkl" and path.is_file():
        state = load_state(path)
        own = {key.removeprefix(OURS): value for key, value in state.items() if key.startswith(OURS)}
        if own:
            load_strict(core, own, path)
            return path
    return load_published(core, path)


def export(checkpoint: str | Path, path: str | Path) -> None:
    """Write the network of a Lightning checkpoint in half precision, as safetensors."""
    state = {key: value for key, value in load_state(checkpoint).items() if key.startswith(OURS)}
    halved = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    save_file({key: value.contiguous().clone() for key, value in halved.items()}, path)


def load_pkl(path: Path) -> dict[str, Tensor]:
    """Tensors of a detectron2 ``.pkl``: a pickle of numpy arrays under ``model``, read without running anything in it.

    Raises:
        InputError: not such a file, or one that holds more than arrays.
    """
    try:
        with path.open("rb") as file:
            content = _Arrays(file).load()
        return {key: torch.from_numpy(np.array(value)) for key, value in content["model"].items()}
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise InputError(f"{path}: not a detectron2 .pkl of arrays under 'model' ({str(error)[:120]})") from None


class _Arrays(pickle.Unpickler):
    """Rebuilds numpy arrays and plain containers, nothing else."""

    _ALLOWED = re.compile(
        r"numpy(\.core|\._core)?\.multiarray\.(_reconstruct|scalar)|numpy\.(ndarray|dtype)|collections\.OrderedDict"
        r"|_codecs\.encode"
    )

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="latin1")  # files of Python 2

    def find_class(self, module: str, name: str) -> Any:
        if not self._ALLOWED.fullmatch(f"{module}.{name}"):
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not loaded from a file")
        return super().find_class(module, name)
