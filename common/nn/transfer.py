"""Copies between host and device that do not stop the queue of a GPU, and the one that has to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


def to_host(*tensors: Tensor) -> list[list[float]]:
    """Read tensors on the host in one copy, which waits for the device.

    All reading of a frame's numbers goes through here, so that a frame waits once; a test holds the frame's path to
    that by ``torch.cuda.set_sync_debug_mode``, which is off inside.

    Args:
        tensors: of any shape and floating dtype, on one device.

    Returns:
        The numbers of each tensor, flat, in float32.
    """
    with _synchronising(tensors[0].device):
        flat = torch.cat([tensor.detach().float().flatten() for tensor in tensors]).cpu()
    return [part.tolist() for part in flat.split([tensor.numel() for tensor in tensors])]


def to_device(values: Tensor | Sequence[float], device: torch.device) -> Tensor:
    """Copy numbers to a device without waiting for it.

    Args:
        values: a tensor on the CPU, or a list of numbers.
        device: target device.
    """
    tensor = values if isinstance(values, Tensor) else torch.tensor(values)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@contextmanager
def _synchronising(device: torch.device) -> Iterator[None]:
    """Allow synchronisation with a CUDA device."""
    if device.type != "cuda":
        yield
        return
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("default")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)
