"""A metric that keeps a row of numbers for each object (or video, or query) and averages at the end."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from common.metrics.gather import gather_rows


class RowMetric(Metric):
    """Base of the suite's metrics: float64 rows, joined over processes, read in sorted order.

    The order in which rows come, and which process adds them, therefore does not change a digit. A subclass gives
    ``update`` (masks or boxes), ``extend`` (what is already measured; every tensor has the object last) and
    ``compute``; both of the former end in ``add``.

    Args:
        width: numbers of a row.
        kwargs: those of ``torchmetrics.Metric``.
    """

    full_state_update = False
    rows: Tensor

    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(**{"dist_sync_fn": gather_rows, **kwargs})
        # A tensor and not a list: a process that has seen nothing must still take part in the gathering.
        self.add_state("rows", torch.zeros(0, width, dtype=torch.float64), dist_reduce_fx="cat", persistent=True)
        self.width = width

    @abstractmethod
    def extend(self, *measured: Any, **named: Any) -> None:
        """Add one video, or one query, that is already measured; tensors with the object last."""

    def add(self, rows: Tensor) -> None:
        """Keep rows (K, width)."""
        self._computed = None  # what torchmetrics does itself around ``update``, and only there
        self._update_count += 1
        self.rows = torch.cat([self.rows, rows.to(self.rows)])

    def sorted_rows(self) -> Tensor:
        """All rows (K, width), in an order that depends on their values alone."""
        rows = self.rows.reshape(-1, self.width)
        for column in reversed(range(self.width)):
            rows = rows[rows[:, column].argsort(stable=True)]
        return rows
