"""Score a method on benchmarks: every video saved when it is done, none lost to another's failure."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from common.errors import InputError
from common.video import FrameMasks, Video

if TYPE_CHECKING:
    from common.benchmarks.base import Benchmark
    from common.segmenter import VideoSegmenter

T = TypeVar("T")
log = logging.getLogger(__name__)


class Stopwatch:
    """Seconds spent inside the iterables it watches."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.seconds = 0.0
        self.device = device

    def watch(self, items: Iterable[T]) -> Iterator[T]:
        """The same items; the time to make each of them is added up."""
        source = iter(items)
        while True:
            start = time.perf_counter()
            try:
                item = next(source)
            except StopIteration:
                return
            finally:
                if self.device is not None and self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)
                self.seconds += time.perf_counter() - start
            yield item


@dataclass
class Tally:
    """What one process has seen of one benchmark."""

    scored: list[str] = field(default_factory=list)
    frames: int = 0
    seconds: float = 0.0


class Scoring:
    """One pass over some benchmarks, a video at a time; with several processes each has its own share of the videos.

    Args:
        segmenter: the method, attached to its trainer.
        benchmarks: in the order of the data loaders.
    """

    def __init__(self, segmenter: VideoSegmenter, benchmarks: Sequence[Benchmark]) -> None:
        self.segmenter = segmenter
        self.benchmarks = benchmarks
        device = segmenter.device if segmenter.device.type == "cuda" else torch.device("cpu")  # mps has no float64
        self.metrics = [benchmark.metric().to(device) for benchmark in benchmarks]
        self.tallies = [Tally() for _ in benchmarks]
        self.failed: dict[str, str] = {}

    def add(self, index: int, video: Video) -> None:
        """Track and measure one video. A failure is logged and kept for the end."""
        try:
            measured = self._measure(index, video)
        except Exception as error:
            self.failed[video.id] = reason(error)
            log.error("%s: failed, going on with the next video: %s", video.id, reason(error), exc_info=not isinstance(error, InputError))
            return
        self.metrics[index].extend(**measured)
        self.tallies[index].scored.append(video.id)

    def _measure(self, index: int, video: Video) -> dict[str, Tensor]:
        decoding, tracking = Stopwatch(), Stopwatch(self.segmenter.device)
        answers = tracking.watch(self.segmenter.track(video))
        return self.benchmarks[index].measure(video, answers)

    def finish(self) -> dict[str, Tensor]:
        """The numbers of all benchmarks over all processes, ``<benchmark>-<split>/<number>``."""
        numbers: dict[str, Tensor] = {}
        for benchmark, metric in zip(self.benchmarks, self.metrics, strict=True):
            for name, value in metric.compute().items():
                numbers[f"{benchmark.name}-{benchmark.split}/{name}"] = value
        return numbers


def reason(error: Exception) -> str:
    """One line that says what went wrong."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1]


def write_prediction(video: Video, answers: Iterable[FrameMasks], folder: Path) -> str | None:
    """Write masks as palette PNGs below ``folder/<video>``; the reason where it failed, else None."""
    from common.video.masks import write_label_map

    try:
        for answer in answers:
            write_label_map(folder / video.id / f"{video.name(answer.frame)}.png", answer.label_map())
    except Exception as error:
        return reason(error)
    return None
