"""Numerical precision: weights are float32, and what is computed with them is float32 or mixed by autocast."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from common.errors import InputError

if TYPE_CHECKING:
    from typing_extensions import Self

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
_SHORT = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed", "64": "64-true"}  # as Lightning reads them
_MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Float32Module(nn.Module):
    """A module whose weights stay float32: ``half``, ``bfloat16``, ``double`` and ``to(dtype)`` are refused.

    Coordinates, position codes and masks are float32 inputs of layers, which autocast converts and half-precision
    weights do not.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        dtype = fn(torch.zeros(1)).dtype  # all conversions of a module, also those of a Trainer, go through here
        if dtype != torch.float32:
            raise InputError(f"{type(self).__name__} cannot be converted to {str(dtype)[6:]}: {_ADVICE}")
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


_ADVICE = "weights stay float32; for speed use precision bf16-mixed or 16-mixed, in Python torch.autocast"


def autocast(precision: str | int, device: torch.device) -> AbstractContextManager[object]:
    """Return the context that computes in a precision, as Lightning's Trainer does.

    Args:
        precision: one of ``PRECISIONS``, or short as in Lightning: 32, ``bf16`` or 16.
        device: of the network. On a CPU float16 is slow, and 16-mixed is bf16-mixed, as in Lightning.

    Raises:
        InputError: the precision has other weights than float32, or is unknown.
    """
    name = _SHORT.get(str(precision), str(precision))
    if name == "32-true":
        return nullcontext()
    if name not in _MIXED:
        known = ", ".join(PRECISIONS)
        raise InputError(f"precision {precision}: {_ADVICE if name.endswith('-true') else f'choose one of {known}'}")
    return torch.autocast(device.type, torch.bfloat16 if device.type == "cpu" else _MIXED[name])
