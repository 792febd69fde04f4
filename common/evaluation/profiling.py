"""Time, memory and floating-point operations of a run."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from common.inference.playback import play, prompts_by_frame
from common.inference.session import Session
from common.video import Frames, Video

T = TypeVar("T")
COUNTED = 8  # frames whose operations are counted


def _attention_flops(q: torch.Size, k: torch.Size, v: torch.Size, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(q, k, v))


# FlopCounterMode has no formula for the attention kernel of the CPU.
CPU_ATTENTION: dict[Any, Any] = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}


class Stopwatch:
    """Measures the time that an iterator takes to produce its items.

    Args:
        device: where the work is done; a GPU is synchronised after each item.

    Attributes:
        seconds: time so far.
        items: number of items so far.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0
        self.items = 0

    def watch(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the same items; time that the caller spends on them is not counted.

        Args:
            items: the iterable to measure.
        """
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
    """Frames with decoding time recorded.

    Args:
        frames: frames of known number.
        stopwatch: collects the time.
    """

    def __init__(self, frames: Frames, stopwatch: Stopwatch) -> None:
        self.frames = frames
        self.stopwatch = stopwatch

    def __iter__(self) -> Iterator[Tensor]:
        return self.stopwatch.watch(self.frames)

    def __len__(self) -> int:
        return len(self.frames)  # type: ignore[arg-type]


def gflops(session: Session, video: Video, device: torch.device) -> float:
    """Count the floating-point operations of the first frames of a video.

    A multiplication and the addition that follows count as two; only matrix products, convolutions and attention count.

    Args:
        session: new, opened for ``counted_frames(video)`` frames.
        video: of known length; its prompts beyond the counted frames are left out.
        device: device of the method.

    Returns:
        Mean of a frame, in 10^9 operations.
    """
    count = counted_frames(video)
    frames = (video[index] for index in range(count))
    with torch.inference_mode(), FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
        for _ in play(session, frames, prompts_by_frame(video), device):
            pass
    return float(counter.get_total_flops()) / count / 1e9


def counted_frames(video: Video) -> int:
    """Return the number of frames whose operations are counted."""
    return min(COUNTED, len(video))


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory so far in MB (10^6 bytes): of the GPU, else of the whole process.

    Args:
        device: device of the method.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
