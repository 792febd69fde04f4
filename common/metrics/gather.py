"""Gathering metric states of unequal length across processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors


def gather_rows(rows: Tensor, group: Any = None) -> list[Tensor]:
    """Rows (K, D) of all processes as one tensor, for ``dist_sync_fn`` of a metric with a ``"cat"`` tensor state.

    torchmetrics stacks what it gathers from tensor states, which fails as soon as two processes hold different numbers
    of rows. Here they arrive already joined; the metric then sees (1, K, D) and flattens it.
    """
    return [torch.cat(gather_all_tensors(rows, group))]
