"""Gathering metric states of unequal length across processes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors


def gather_rows(rows: Tensor, group: object = None) -> list[Tensor]:
    """Gather and concatenate rows of all processes, as ``dist_sync_fn`` of a metric with a ``"cat"`` tensor state.

    torchmetrics stacks gathered tensor states, which fails if processes hold different numbers of rows. Here the rows
    are already concatenated; the metric sees (1, K, D) and flattens it.

    Args:
        rows: (K, D), the rows of this process.
        group: process group; default: all processes.
    """
    return [torch.cat(gather_all_tensors(rows, group))]
