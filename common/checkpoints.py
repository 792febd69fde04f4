"""Load weights that came from elsewhere: safely, strictly, and with errors that name the keys."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from common.errors import InputError


def load_state(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a ``.safetensors``, ``.pt``, ``.pth`` or Lightning ``.ckpt`` file, on the CPU.

    Pickled files are read with ``weights_only=True``: nothing in them is run. A state dict may lie at the top or under
    ``model``, ``state_dict`` or ``weights``.

    Raises:
        InputError: no such file, not a checkpoint, or something in it is not a tensor.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the path of a .safetensors, .pt, .pth or .ckpt file")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise InputError(f"{path}: not a readable safetensors file ({error}); fetch it again") from None
    content = load_pickled(path)
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
    return dict(content)


def load_pickled(path: str | Path) -> dict[str, Any]:
    """A torch file that holds a dict, with ``weights_only=True``, on the CPU.

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


def load_strict(module: nn.Module, state: Mapping[str, Tensor], where: str | Path) -> None:
    """Copy ``state`` into ``module``; every key and every size must fit.

    Args:
        where: the file the state came from, for the message.

    Raises:
        InputError: names a few of the missing, extra and wrong-size keys; the module is unchanged.
    """
    check_fits(module, state, where)
    module.load_state_dict(state)


def check_fits(module: nn.Module, state: Mapping[str, Tensor], where: str | Path) -> None:
    """Raise what ``load_strict`` raises, load nothing."""
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
    """SHA-256 over the names, sizes and values of a module's state: the same wherever they were loaded from."""
    total = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        raw = value.detach().cpu().contiguous().flatten().view(torch.uint8)
        total.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        total.update(raw.numpy().tobytes())
    return total.hexdigest()


def _few(keys: Iterable[str], limit: int = 3) -> str:
    """The first few keys and how many more there are."""
    listed = list(keys)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
