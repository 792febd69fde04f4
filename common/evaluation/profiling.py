"""Time and memory of a run."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from common.video import Frames, Video

if TYPE_CHECKING:
    from common.segmenter import VideoSegmenter

T = TypeVar("T")
COUNTED = 8  # frames whose operations are counted
# torch counts attention on a GPU; the CPU's kernel it does not know.
CPU_ATTENTION: dict[Any, Any] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *more, **named: sdpa_flop_count(q, k, v)
}


class Stopwatch:
    """Seconds that it takes to make the items of what it watches, and how many there were.

    Args:
        device: where the work is done; a GPU is waited for.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0
        self.items = 0

    def watch(self, items: Iterable[T]) -> Iterator[T]:
        """The same items. What is done with them outside does not count."""
        source = iter(items)
        while True:
            start = time.perf_counter()
            try:
                item = next(source)
            except StopIteration:
                return
            finally:
                if self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)
                self.seconds += time.perf_counter() - start
            self.items += 1
            yield item


class TimedFrames:
    """Frames whose decoding a stopwatch takes the time of.

    Args:
        frames: of known number.
    """

    def __init__(self, frames: Frames, stopwatch: Stopwatch) -> None:
        self.frames = frames
        self.stopwatch = stopwatch

    def __iter__(self) -> Iterator[Tensor]:
        return self.stopwatch.watch(self.frames)

    def __len__(self) -> int:
        return len(self.frames)  # type: ignore[arg-type]


def gflops(segmenter: VideoSegmenter, video: Video) -> float:
    """Floating-point operations that the first frames of a video take, a frame's mean, in 10^9.

    A multiplication and the addition that follows count as two; only matrix products, convolutions and attention count.
    """
    count = min(COUNTED, len(video))
    session = segmenter.session(count)
    with torch.inference_mode(), FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
        for index in range(count):
            session.step(video[index].to(segmenter.device), [p for p in video.prompts if p.frame == index])
        session.finish()
    return counter.get_total_flops() / count / 1e9


def peak_memory_mb(device: torch.device) -> float:
    """Highest memory so far in MB (10^6 bytes): of the GPU, else of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
