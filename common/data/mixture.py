"""Mixture of training sets, and the sampler of its clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from common.data.clips import ClipDataset, Item
from common.errors import InputError


class MixedClips(Dataset[Item]):
    """Mixture of clip data sets; the source of a clip is drawn by weight from (seed, epoch, index // group).

    Args:
        sources: clip data sets of equal length.
        weights: sampling weight of each source; default: equal.
        seed: seed of the sampling.
        group: number of consecutive clips from one source, e.g. those of a batch over all processes.

    Raises:
        InputError: the number of weights is wrong, or one is negative, or all are 0.
    """

    def __init__(
        self, sources: Sequence[ClipDataset], weights: Sequence[float] | None = None, seed: int = 0, group: int = 1
    ) -> None:
        weights = [1.0] * len(sources) if weights is None else weights
        if len(weights) != len(sources) or min(weights) < 0 or sum(weights) <= 0:
            raise InputError(f"weights {list(weights)}: give each of {len(sources)} training sets a weight, not all 0")
        self.sources, self.seed, self.group = sources, seed, group
        self.shares = np.array(weights, dtype=float) / sum(weights)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of all sources, in all workers.

        Args:
            epoch: the epoch, from 0.
        """
        for source in self.sources:
            source.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.sources[0])

    def __getitem__(self, index: int) -> Item:
        return self.sources[self._source(index)][index]

    def _source(self, index: int) -> int:
        """Return the index of a clip's source."""
        rng = np.random.default_rng((self.seed, self.sources[0].epoch, index // self.group, len(self.sources)))
        return int(rng.choice(len(self.sources), p=self.shares))


class EpochSampler(DistributedSampler[Item]):
    """Sampler that distributes clips over processes in order and passes the epoch on to the data set.

    Clips are random by construction, so no shuffling is needed; Lightning does not replace a ``DistributedSampler``.
    Epoch and place follow from the number of batches that the training has taken, so that a resumed training goes on
    with the next clip, also inside an epoch. Lightning would begin the epoch anew, and count it wrongly where the
    length is given in steps.

    Args:
        dataset: the clips.
        num_replicas: number of processes.
        rank: rank of this process.
        batch_size: clips per batch and process.
        taken: returns the number of batches that the training has taken; None = epochs are those of ``set_epoch``.
    """

    def __init__(
        self,
        dataset: MixedClips,
        num_replicas: int,
        rank: int,
        batch_size: int = 1,
        taken: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=False)
        self.batch_size, self.taken = batch_size, taken

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the sampler and of the data set; Lightning's count is used only without ``taken``.

        Args:
            epoch: the epoch, from 0.
        """
        if self.taken is None:
            self._set(epoch)

    def __iter__(self) -> Iterator[Any]:
        start = 0
        if self.taken is not None:
            epoch, batch = divmod(self.taken(), max(1, len(self) // self.batch_size))
            self._set(epoch)
            start = batch * self.batch_size
        return islice(super().__iter__(), start, None)

    def _set(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.dataset.set_epoch(epoch)  # type: ignore[attr-defined]


class ClipLoader(DataLoader[Any]):
    """A loader whose place is that of its ``EpochSampler``; it tells Lightning that it can be resumed."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the place follows from the training's own count of batches."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing.

        Args:
            state: empty.
        """
