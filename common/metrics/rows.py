"""Base class of metrics that store one row of numbers per object (or video, or query)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
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


def unique_values(values: Tensor) -> Tensor:
    """Return the sorted unique values of a tensor, (U,).

    Args:
        values: tensor of any shape.
    """
    unique: Tensor = torch.unique(values)  # typed, unlike the method ``Tensor.unique``
    return unique


class RowMetric(Metric):
    """Metric with a state of float64 rows, concatenated over processes and read in sorted order.

    Results are therefore bit-identical for any order of the videos and any distribution over processes. A subclass
    implements ``update`` (from masks or boxes), ``extend`` (from measured values, with objects in the last dimension)
    and ``compute``; the first two call ``add``.

    Args:
        width: length of a row.
        kwargs: arguments of ``torchmetrics.Metric``.
    """

    full_state_update = False
    rows: Tensor

    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(**{"dist_sync_fn": gather_rows, **kwargs})
        # A tensor and not a list, so that a process without any rows takes part in gathering.
        self.add_state("rows", torch.zeros(0, width, dtype=torch.float64), dist_reduce_fx="cat", persistent=True)
        self.width = width

    @abstractmethod
    def extend(self, *measured: Any, **named: Any) -> None:
        """Add one video or query from measured values.

        Args:
            measured: tensors with objects in the last dimension.
            named: the same, by keyword.
        """

    def add(self, rows: Tensor) -> None:
        """Append rows to the state.

        Args:
            rows: (K, width).
        """
        # torchmetrics maintains these two around ``update`` only.
        self._computed = None
        self._update_count += 1
        self.rows = torch.cat([self.rows, rows.to(self.rows)])

    def sorted_rows(self) -> Tensor:
        """Return all rows (K, width) in lexicographic order."""
        rows = self.rows.reshape(-1, self.width)
        for column in reversed(range(self.width)):
            rows = rows[rows[:, column].argsort(stable=True)]
        return rows
