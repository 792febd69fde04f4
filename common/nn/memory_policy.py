"""Which stored frame a memory bank gives up when it is about to store another."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor


class Decision(NamedTuple):
    """What becomes of a bank.

    Attributes:
        remove: index of the stored frame that goes, None to keep all.
        store: whether the current frame is stored.
    """

    remove: int | None
    store: bool


class MemoryPolicy(Protocol):
    """Decides at every write to a bank that holds at least one frame."""

    def choose(self, ages: Tensor, relevance: Tensor, protected: Tensor, capacity: int | None) -> Decision:
        """One decision.

        Shape:
            ages: float (n,), how long ago each stored frame was stored, over 0, in the bank's unit.
            relevance: float (n,), its similarity with the current frame, -1 to 1.
            protected: bool (n,), True where it may not go.
            capacity: most frames to hold, protected ones included; None = any number.
        """
        ...


class KeepAll:
    """Nothing ever goes: the memory grows with the video."""

    def choose(self, ages: Tensor, relevance: Tensor, protected: Tensor, capacity: int | None) -> Decision:
        """See ``MemoryPolicy``."""
        return Decision(None, True)


class Oldest:
    """A full bank gives up its oldest frame (RMem's bank without its bonus: the reference and the latest)."""

    def choose(self, ages: Tensor, relevance: Tensor, protected: Tensor, capacity: int | None) -> Decision:
        """See ``MemoryPolicy``."""
        return _give_up(ages, protected, capacity)


class LeastRelevant:
    """A full bank gives up the frame that is least like the current one (DMAOT)."""

    def choose(self, ages: Tensor, relevance: Tensor, protected: Tensor, capacity: int | None) -> Decision:
        """See ``MemoryPolicy``."""
        return _give_up(-relevance, protected, capacity)


def _give_up(score: Tensor, protected: Tensor, capacity: int | None) -> Decision:
    """The highest score goes if the bank is full, the first of equals; with nothing that may go, nothing is stored."""
    if capacity is None or len(score) < capacity:
        return Decision(None, True)
    if bool(protected.all()):
        return Decision(None, False)
    return Decision(int(score.masked_fill(protected, -float("inf")).argmax()), True)
