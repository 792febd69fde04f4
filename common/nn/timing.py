"""Time of the parts of a frame, for the verb ``speed``."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


class PartClock:
    """Adds up the time of named parts; time inside an inner part counts for the inner one only.

    Args:
        device: synchronised at the borders of the parts where it is a GPU.

    Attributes:
        seconds: by name.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []  # of each open part, the time of the parts inside

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Count the time inside for a part."""
        start = self._now()
        self._inner.append(0.0)
        try:
            yield
        finally:
            spent = self._now() - start
            self.seconds[name] += spent - self._inner.pop()
            if self._inner:
                self._inner[-1] += spent

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


_clock: PartClock | None = None


@contextmanager
def measured_by(clock: PartClock) -> Iterator[None]:
    """Let a clock measure the parts that run inside."""
    global _clock
    before, _clock = _clock, clock
    try:
        yield
    finally:
        _clock = before


def part(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function that is a part of a frame; without a clock it runs as it is.

    Args:
        name: ``encode``, ``read memory``, ``decode masks``, ``write memory`` or another.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if _clock is None:
                return function(*args, **kwargs)
            with _clock.measure(name):
                return function(*args, **kwargs)

        return call

    return decorate
