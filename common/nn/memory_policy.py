"""Eviction policies of memory banks."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor


class Decision(NamedTuple):
    """The decision at one write to a bank.

    Attributes:
        remove: index of the stored frame to remove; None removes nothing.
        store: whether to store the current frame.
    """

    remove: int | None
    store: bool


class MemoryPolicy(Protocol):
    """Decides at every write to a bank that is not empty which frame is removed and whether the new one is stored."""

    def choose(self, ages: Tensor, relevance: Tensor, protected: Tensor, capacity: int | None) -> Decision:
        """Decide on the current frame, with n frames in the bank.

        Args:
            ages: float (n,), time since each frame was stored, above 0, in the bank's unit.
            relevance: float (n,), similarity of each frame to the current one, in [-1, 1].
            protected: bool (n,), whether a frame must not be removed.
            capacity: most frames in the bank, protected ones included; None = no limit.
        """
        ...


class KeepAll:
    """Never removes a frame: the memory grows with the video."""

    def choose(self, ages: Tensor, relevance: Tensor, protected: Tensor, capacity: int | None) -> Decision:
        """See ``MemoryPolicy.choose``."""
        return Decision(None, True)


class Oldest:
    """Removes the oldest frame of a full bank. With one reference frame this is RMem's bank without its UCB bonus."""

    def choose(self, ages: Tensor, relevance: Tensor, protected: Tensor, capacity: int | None) -> Decision:
        """See ``MemoryPolicy.choose``."""
        return _evict(ages, protected, capacity)


class LeastRelevant:
    """Removes the frame of a full bank that is least similar to the current one (DMAOT)."""

    def choose(self, ages: Tensor, relevance: Tensor, protected: Tensor, capacity: int | None) -> Decision:
        """See ``MemoryPolicy.choose``."""
        return _evict(-relevance, protected, capacity)


def _evict(score: Tensor, protected: Tensor, capacity: int | None) -> Decision:
    """Remove the frame with the highest score, the first of ties, if the bank is full.

    Nothing is stored in a full bank of protected frames.
    """
    if capacity is None or len(score) < capacity:
        return Decision(None, True)
    if bool(protected.all()):
        return Decision(None, False)
    return Decision(int(score.masked_fill(protected, -float("inf")).argmax()), True)
