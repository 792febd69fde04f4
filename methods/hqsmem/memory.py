"""The long-term memory of one engine: whole frames, or the tokens of each target separately (DMAOT).

Legend: B batch, n tokens of a frame, m tokens of the memory, C channels of a key or value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from common.nn.memory_policy import KeepAll, MemoryPolicy
from methods.hqsmem.deaot.propagation import LayerMemory, concatenate_memories
from methods.hqsmem.settings import MemorySettings

FRAME = 0  # key of the only list of a bank that stores whole frames


@dataclass
class MemoryEntry:
    """A stored frame, or one identity's part of it.

    Attributes:
        layers: tokens (B, n, C) of each layer.
        frame: index of the frame in the video.
        update: number of writes to the bank before this one.
        reference: whether the frame is a reference frame, which is never removed.
        descriptor: float (D,) of unit length; the relevance of two entries is the dot product of theirs.
    """

    layers: list[LayerMemory]
    frame: int
    update: int
    reference: bool
    descriptor: Tensor


class MemoryBank:
    """Stored frames, read together.

    Args:
        settings: capacity, whole frames or per object, and the unit of age.
        policy: which entry is removed at a write; ``KeepAll`` by default.

    Attributes:
        lists: the entries of each identity, oldest first; of ``FRAME`` alone where whole frames are stored.
        updates: number of writes.
    """

    def __init__(self, settings: MemorySettings, policy: MemoryPolicy | None = None) -> None:
        self.settings, self.policy = settings, policy or KeepAll()
        self.reset()

    def reset(self) -> None:
        """Remove everything."""
        self.lists: dict[int, list[MemoryEntry]] = {}
        self.updates = 0
        self._read: tuple[list[LayerMemory], Tensor] | None = None

    def __len__(self) -> int:
        """Number of entries; with memory per object, of all targets and the background together."""
        return sum(map(len, self.lists.values()))

    def add(
        self,
        layers: Sequence[LayerMemory],
        frame: int,
        labels: Tensor | None = None,
        reference: bool = False,
        descriptors: Mapping[int, Tensor] | None = None,
    ) -> None:
        """Offer a frame. The policy decides whether it is stored; a reference frame always is.

        Args:
            layers: the frame's tokens (B, n, C); B = 1 with memory per object.
            frame: its index.
            labels: int64 (n,), the identity of each token, 0 the background; with memory per object.
            reference: whether it is a reference frame.
            descriptors: for each identity (``FRAME`` for whole frames) a vector on which relevance is measured; by
                default ``mean_key_value``.
        """
        if self.settings.per_object:
            assert labels is not None
            identities = torch.unique(labels).tolist()
            parts = {int(i): _select(layers, (labels == i).nonzero()[:, 0]) for i in identities}
        else:
            parts = {FRAME: list(layers)}
        # With memory per object, an identity without tokens on this frame has no part, and its list stays unchanged.
        for identity, part in parts.items():
            if descriptors is None:
                descriptor = mean_key_value(part)
            else:
                descriptor = F.normalize(descriptors[identity].flatten().float(), dim=0)
            self._offer(identity, MemoryEntry(part, frame, self.updates, reference, descriptor))
        self.updates += 1

    def read(self) -> tuple[list[LayerMemory], Tensor]:
        """Return all tokens (B, m, C) of each layer, and for each token the rank in time of its frame, int64 (m,)."""
        if self._read is None:
            entries = [entry for entries in self.lists.values() for entry in entries]
            counts = [entry.layers[0].key.shape[1] for entry in entries]
            layers = concatenate_memories([entry.layers for entry in entries])
            # Entries become views of the concatenation, so that no token is held twice.
            for entry, *parts in zip(entries, *(_split(layer, counts) for layer in layers), strict=True):
                entry.layers = parts
            rank = {frame: place for place, frame in enumerate(sorted({entry.frame for entry in entries}))}
            ranks = torch.tensor([rank[entry.frame] for entry in entries])
            token_ranks = ranks.repeat_interleave(torch.tensor(counts)).to(layers[0].key.device)
            self._read = layers, token_ranks
        return self._read

    def drop(self, identity: int) -> None:
        """Remove all entries of an identity; one without entries is ignored."""
        if self.lists.pop(identity, None) is not None:
            self._read = None

    def _offer(self, identity: int, entry: MemoryEntry) -> None:
        entries, store = self.lists.setdefault(identity, []), True
        if entries:
            relevance = torch.stack([old.descriptor for old in entries]) @ entry.descriptor
            remove, store = self.policy.choose(
                torch.tensor([self._age(old, entry) for old in entries], device=relevance.device),
                relevance,
                torch.tensor([old.reference for old in entries], device=relevance.device),
                self.settings.capacity,
            )
            if remove is not None:
                del entries[remove]
                self._read = None
        if store or entry.reference:  # a reference frame is stored whatever the policy says, beyond the capacity too
            entries.append(entry)
            self._read = None

    def _age(self, entry: MemoryEntry, newest: MemoryEntry) -> float:
        if self.settings.age_unit == "frames":
            return float(newest.frame - entry.frame)
        return float(newest.update - entry.update)


def mean_key_value(layers: Sequence[LayerMemory]) -> Tensor:
    """Return the descriptor that DMAOT measures relevance on: the means of K and of V over the tokens of each layer.

    Each mean has the same length, so that the dot product of two descriptors is the mean cosine of their parts.

    Returns:
        float (D,) of unit length.
    """
    means = [tokens.float().mean(1) for layer in layers for tokens in (layer.key, layer.visual)]
    descriptor = torch.cat([F.normalize(mean, dim=1).flatten() for mean in means])
    length: float = (len(means) * len(means[0])) ** 0.5
    return descriptor / length


def _select(layers: Sequence[LayerMemory], rows: Tensor) -> list[LayerMemory]:
    return [LayerMemory(layer.key[:, rows], layer.value[:, rows]) for layer in layers]


def _split(layer: LayerMemory, counts: list[int]) -> list[LayerMemory]:
    keys, values = torch.split(layer.key, counts, 1), torch.split(layer.value, counts, 1)
    return [LayerMemory(key, value) for key, value in zip(keys, values, strict=True)]
