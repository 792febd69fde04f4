"""Several sources of clips as one, and the order in which they are visited."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

from common.data.clips import ClipDataset, Item
from common.errors import InputError


class MixedClips(Dataset[Item]):
    """Each clip comes from one of the sources, drawn by weight from (seed, epoch, index // group).

    Args:
        sources: clip data sets of one length.
        weights: share of each source; equal by default.
        seed: chooses the sources.
        group: clips that follow each other and come from one source, e.g. those of a batch of all processes.
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
        """Go to the clips of this epoch, in every worker."""
        for source in self.sources:
            source.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.sources[0])

    def __getitem__(self, index: int) -> Item:
        return self.sources[self._source(index)][index]

    def _source(self, index: int) -> int:
        """Place of the source that a clip comes from."""
        rng = np.random.default_rng((self.seed, self.sources[0].epoch, index // self.group, len(self.sources)))
        return int(rng.choice(len(self.sources), p=self.shares))


class EpochSampler(DistributedSampler):
    """Clips in order, shared out over the processes, and the epoch passed on to the data set.

    Clips are random by themselves, so their order needs no shuffling. Lightning tells samplers the epoch and leaves a
    ``DistributedSampler`` as it is.
    """

    def __init__(self, dataset: MixedClips, num_replicas: int, rank: int) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=False)

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch."""
        super().set_epoch(epoch)
        self.dataset.set_epoch(epoch)  # type: ignore[attr-defined]
