"""The long-term memory of one engine: whole frames, or each target's part of them (DMAOT)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from common.nn.memory_policy import KeepAll, MemoryPolicy
from methods.hqsmem.deaot.propagation import LayerMemory
from methods.hqsmem.settings import MemorySettings

FRAME = 0  # the one list of a bank of whole frames


@dataclass
class Entry:
    """A stored frame, or a target's part of it.

    Attributes:
        layers: of each layer its tokens (B, n, C).
        frame: index in the video.
        update: how many writes the bank had seen before.
        reference: its mask was given.
        descriptor: float (D,), unit length; the dot product of two is their similarity.
    """

    layers: list[LayerMemory]
    frame: int
    update: int
    reference: bool
    descriptor: Tensor


class Bank:
    """Stored frames, and what all of them together give a layer to read.

    Args:
        settings: capacity, per object or not, unit of age.
        policy: what goes at a write; ``KeepAll`` by default.
    """

    def __init__(self, settings: MemorySettings, policy: MemoryPolicy | None = None) -> None:
        self.settings, self.policy = settings, policy or KeepAll()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.lists: dict[int, list[Entry]] = {}
        self.updates = 0
        self._read: tuple[list[LayerMemory], Tensor] | None = None

    def __len__(self) -> int:
        """Entries held; with memory per object, of all targets and the background together."""
        return sum(map(len, self.lists.values()))

    def add(
        self,
        layers: Sequence[LayerMemory],
        frame: int,
        labels: Tensor | None = None,
        reference: bool = False,
        descriptors: Mapping[int, Tensor] | None = None,
    ) -> None:
        """Offer a frame; the policy says what is stored and what goes, a reference is stored in any case.

        Args:
            layers: its tokens (B, n, C); with memory per object B = 1.
            frame: its index.
            labels: int64 (n,), the identity that each token belongs to, 0 the background; with memory per object.
            reference: its mask was given; it never goes.
            descriptors: a vector for each identity that relevance is measured on (``FRAME`` for whole frames); by
                default the means of K and V over the tokens, layer by layer (DMAOT's measure).
        """
        if self.settings.per_object:
            assert labels is not None
            parts = {int(i): _take(layers, (labels == i).nonzero()[:, 0]) for i in labels.unique()}
        else:
            parts = {FRAME: list(layers)}
        for identity, part in parts.items():
            given = None if descriptors is None else descriptors[identity]
            vector = describe(part) if given is None else F.normalize(given.flatten().float(), dim=0)
            self._offer(identity, Entry(part, frame, self.updates, reference, vector))
        self.updates += 1

    def read(self) -> tuple[list[LayerMemory], Tensor]:
        """All tokens (B, m, C) of each layer, and int64 (m,): the rank in time of the frame that each is from."""
        if self._read is None:
            entries = [entry for own in self.lists.values() for entry in own]
            counts = [entry.layers[0].key.shape[1] for entry in entries]
            joined = [
                LayerMemory(*(torch.cat(parts, 1) for parts in zip(*layer, strict=True)))
                for layer in zip(*(entry.layers for entry in entries), strict=True)
            ]
            for entry, *parts in zip(entries, *(_split(layer, counts) for layer in joined), strict=True):
                entry.layers = parts  # views, so that nothing is held twice
            rank = {frame: place for place, frame in enumerate(sorted({entry.frame for entry in entries}))}
            ranks = torch.tensor([rank[entry.frame] for entry in entries])
            order = ranks.repeat_interleave(torch.tensor(counts)).to(joined[0].key.device)
            self._read = joined, order
        return self._read

    def forget(self, identity: int) -> None:
        """Drop one target's list, where there is one."""
        if self.lists.pop(identity, None) is not None:
            self._read = None

    def _offer(self, identity: int, entry: Entry) -> None:
        own, stored = self.lists.setdefault(identity, []), True
        if own:
            now = entry.frame if self.settings.age_unit == "frames" else entry.update
            then = [old.frame if self.settings.age_unit == "frames" else old.update for old in own]
            relevance = torch.stack([old.descriptor for old in own]) @ entry.descriptor
            remove, stored = self.policy.choose(
                torch.tensor([float(now - time) for time in then], device=relevance.device),
                relevance,
                torch.tensor([old.reference for old in own], device=relevance.device),
                self.settings.capacity,
            )
            if remove is not None:
                del own[remove]
                self._read = None
        if stored or entry.reference:
            own.append(entry)
            self._read = None


def describe(layers: Sequence[LayerMemory]) -> Tensor:
    """Means of K and of V over the tokens, layer by layer: float (D,), unit length.

    The dot product of two is the mean of the cosines of their parts.
    """
    means = [tokens.float().mean(1) for layer in layers for tokens in (layer.key, layer.visual)]
    unit = torch.cat([F.normalize(mean, dim=1).flatten() for mean in means])
    return unit / (len(means) * len(means[0])) ** 0.5


def _take(layers: Sequence[LayerMemory], rows: Tensor) -> list[LayerMemory]:
    return [LayerMemory(layer.key[:, rows], layer.value[:, rows]) for layer in layers]


def _split(layer: LayerMemory, counts: list[int]) -> list[LayerMemory]:
    return [LayerMemory(*pair) for pair in zip(layer.key.split(counts, 1), layer.value.split(counts, 1), strict=True)]
