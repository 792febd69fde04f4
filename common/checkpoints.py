"""Weights from files, and back: read safely, loaded strictly, errors that name the keys."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from common.errors import InputError
from common.files import PROJECT, atomic_path, weights_folders

PREFIX = "network."
"""Where the network of a method lies in its LightningModule, and so in checkpoints and exported files."""

ABOUT = "vidseg"
"""The key of a safetensors file's metadata that holds, as JSON, the method, its settings and its training data."""

Rules = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]


@dataclass(frozen=True)
class WeightsFile:
    """The content of a file of weights.

    Attributes:
        state: its tensors by name, on the CPU.
        class_path: the method that it was saved from; empty for files from elsewhere.
        settings: the settings of that method that the tensors' shapes and the input's size depend on.
    """

    state: dict[str, Tensor]
    class_path: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


def read_weights(path: str | Path) -> WeightsFile:
    """Read a ``.safetensors``, ``.pt``, ``.pth``, Lightning ``.ckpt`` or detectron2 ``.pkl`` file.

    Pickled files are read with ``weights_only=True`` or, ``.pkl``, with nothing but arrays allowed: no code in them is
    run. A state dict may lie at the top or under ``model``, ``state_dict`` or ``weights``.

    Args:
        path: the file.

    Raises:
        InputError: no such file, not a checkpoint, or something in it is not a tensor.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the path of a .safetensors, .pt, .pth or .ckpt file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix == ".pkl":
        return WeightsFile(load_arrays(path))
    whole = content = load_pickled(path)
    for key in ("model", "state_dict", "weights"):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    odd = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if odd or not content:
        what = f"{_few(odd)} are no tensors" if odd else "it is empty"
        raise InputError(
            f"{path}: not a state dict: {what}; expected tensors at the top, in 'model', 'state_dict' or 'weights'"
        )
    stored = whole.get("class_path")
    if not isinstance(stored, str):
        return WeightsFile(dict(content))
    return WeightsFile(dict(content), stored, dict(whole.get("settings", {})))


def load_state(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a file that ``read_weights`` reads.

    Args:
        path: the file.

    Raises:
        InputError: as ``read_weights``.
    """
    return read_weights(path).state


def save_weights(
    state: Mapping[str, Tensor], path: str | Path, class_path: str, settings: Mapping[str, Any], data: str = ""
) -> None:
    """Write tensors as safetensors, with the settings that they are of.

    Args:
        state: tensors by name.
        path: the file; it is there whole or not at all.
        class_path: the method.
        settings: plain data, for ``WeightsFile.settings``.
        data: what the weights were trained on, in words.
    """
    about = {"class_path": class_path, "settings": settings, "data": data}
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    with atomic_path(path) as part:  # one key, since safetensors writes several in any order: the same file each time
        save_file(tensors, part, {ABOUT: json.dumps(about, sort_keys=True)})


def find_weights(path: str | Path) -> Path:
    """Return the first that is there of ``path``, and ``path`` below the project and the folders of weights.

    Where none is, ``path`` is returned.

    Args:
        path: a file or folder, e.g. ``weights/sam2_nano.safetensors`` or ``sam2.1_hiera_tiny.pt``.
    """
    path = Path(path)
    places = [path, *(folder / path for folder in (PROJECT, *weights_folders()))]
    return next((place for place in places if place.exists()), path)


def weights_file(path: str | Path, hint: str = "") -> Path:
    """Return the file that holds the weights: ``find_weights`` itself, or that of a transformers folder.

    Args:
        path: a file or folder.
        hint: where the published weights come from, for the message.

    Raises:
        InputError: neither is there.
    """
    path = find_weights(path)
    if path.is_dir():
        for name in ("model.safetensors", "pytorch_model.bin"):
            if (path / name).is_file():
                return path / name
        raise InputError(f"{path}: no model.safetensors or pytorch_model.bin in this folder")
    if not path.is_file():
        where = f"{hint}; put one on disk and give its path" if hint else "give the path of a file that is here"
        raise InputError(f"{path}: no such weights; {where}")
    return path


def rename(state: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    """Return a state dict under new names; a name that no rule matches stays.

    Args:
        state: tensors by name.
        rules: pairs of a regular expression and its replacement, all applied in order to every name.
    """
    return {rename_key(key, rules): value for key, value in state.items()}


def rename_key(key: str, rules: Rules) -> str:
    """Return the new name of one tensor, see ``rename``."""
    for pattern, name in rules:
        key = re.sub(pattern, name, key)
    return key


def with_counters(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the batch counters of frozen batch norms, which are constants and missing in older files.

    Args:
        module: the module that ``state`` is for.
        state: tensors by name.
    """
    counters = {k: v for k, v in module.state_dict().items() if k.endswith("num_batches_tracked")}
    return {**counters, **state}


def load_pickled(path: str | Path) -> dict[str, Any]:
    """Read a torch file that holds a dict, with ``weights_only=True``, on the CPU.

    Args:
        path: the file.

    Raises:
        InputError: unreadable, cut off, or holding code.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{path}: not a readable checkpoint ({reason[0][:120]}); fetch it again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a state dict")
    return content


def load_arrays(path: Path) -> dict[str, Tensor]:
    """Read a detectron2 ``.pkl``: a pickle of numpy arrays under ``model``. Nothing in it is run.

    Args:
        path: the file.

    Raises:
        InputError: not such a file, or one that holds more than arrays.
    """
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file).load()
        return {key: torch.from_numpy(np.array(value)) for key, value in content["model"].items()}
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise InputError(f"{path}: not a detectron2 .pkl of arrays under 'model' ({str(error)[:120]})") from None


class _ArrayUnpickler(pickle.Unpickler):
    """Rebuilds numpy arrays and plain containers, nothing else."""

    _ALLOWED = re.compile(
        r"numpy(\.core|\._core)?\.multiarray\.(_reconstruct|scalar)|numpy\.(ndarray|dtype)|collections\.OrderedDict"
        r"|_codecs\.encode"
    )

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="latin1")  # files of Python 2

    def find_class(self, module: str, name: str) -> object:
        """Return a class or function of the allow-list; raise ``UnpicklingError`` for anything else."""
        if not self._ALLOWED.fullmatch(f"{module}.{name}"):
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not loaded from a file")
        return super().find_class(module, name)


def load_strict(module: nn.Module, state: Mapping[str, Tensor], where: str | Path) -> None:
    """Copy ``state`` into ``module``; every key and every size must fit.

    Args:
        module: the module to load into.
        state: tensors by name.
        where: the file the state came from, for the message.

    Raises:
        InputError: names a few of the missing, extra and wrong-size keys; the module is unchanged.
    """
    check_fits(module, state, where)
    module.load_state_dict(state)


def check_fits(module: nn.Module, state: Mapping[str, Tensor], where: str | Path) -> None:
    """Raise the error of ``load_strict``, without loading anything."""
    wanted = module.state_dict()
    wrong = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in state and state[key].shape != value.shape
    ]
    faults = {
        "missing": sorted(wanted.keys() - state.keys()),
        "not known": sorted(state.keys() - wanted.keys()),
        "wrong size": wrong,
    }
    if any(faults.values()):
        found = "; ".join(f"{len(keys)} {fault}: {_few(keys)}" for fault, keys in faults.items() if keys)
        raise InputError(f"{where}: does not fit {type(module).__name__}: {found}")


def state_digest(module: nn.Module) -> str:
    """Return the SHA-256 of the names, sizes and values of a module's state, whatever file they were loaded from."""
    total = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        raw = value.detach().cpu().contiguous().flatten().view(torch.uint8)
        total.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        total.update(raw.numpy().tobytes())
    return total.hexdigest()


def _read_safetensors(path: Path) -> WeightsFile:
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get(ABOUT, "{}"))
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # no mapping
        return WeightsFile(state, about.get("class_path", ""), about.get("settings", {}))
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error}); fetch it again") from None


def _few(keys: Iterable[str], limit: int = 3) -> str:
    """Return the first few keys and the number of the others."""
    listed = list(keys)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
