"""Generated benchmarks of video object segmentation: held-out synthetic videos, scored like DAVIS or VOTS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from common.benchmarks.base import Benchmark
from common.benchmarks.tasks.vos import VOSBenchmark
from common.metrics import VOTSMetrics
from common.metrics.vots import NUMBERS, measure_regions
from common.synthetic import SyntheticClips
from common.video import FrameMasks, Video


class Generated(Benchmark):
    """A benchmark of generated videos that no training seed can produce; the only split is ``test``.

    Attributes:
        generator: class of the generator.

    Args:
        preset: name of a preset, see ``generator``.
        videos: number of videos.
        frames: number of frames per video.
        size: (H, W) in pixels.
        seed: seed of the generator.
    """

    source = "made by the code"
    splits = ("test",)
    generator: type[SyntheticClips] = SyntheticClips

    def __init__(
        self,
        preset: str = "easy",
        videos: int = 8,
        frames: int = 24,
        size: tuple[int, int] = (128, 128),
        seed: int = 10_000,
    ) -> None:
        super().__init__(split="test")
        self.clips = self.generator(preset, length=videos, frames=frames, size=size, seed=seed, held_out=True)

    def list_videos(self) -> list[str]:
        """Return the names of the generated videos."""
        return [self.clips.name(index) for index in range(len(self.clips))]

    def open(self, id: str) -> Video:
        """Open a video.

        Args:
            id: name of the video.
        """
        return self.clips[self.list_videos().index(id)]

    def amount(self) -> str:
        """Return the number, length, size and seed of the videos, for the protocol line."""
        height, width = self.clips.size
        return (
            f"{len(self.clips)} generated videos of {self.clips.frames} frames at {height}x{width}, "
            f"seed {self.clips.seed}"
        )


class Tiny(Generated, VOSBenchmark):
    """Generated videos scored by J&F like DAVIS.

    Args:
        preset: see ``SyntheticClips``.
        kwargs: further arguments of ``Generated``.
    """

    def __init__(self, preset: str = "easy", **kwargs: Any) -> None:
        super().__init__(preset, **kwargs)
        self.name = f"tiny-{preset}"
        self.protocol = f"J&F, {self.amount()}, all frames but first and last, flat mean over targets"


class TinyVOTS(Tiny):
    """Generated videos scored by the measures of VOTS, on the frames after a target's prompt.

    Args:
        preset: see ``SyntheticClips``.
        kwargs: further arguments of ``Generated``.
    """

    task = "VOTS"
    numbers = NUMBERS

    def __init__(self, preset: str = "reappear", **kwargs: Any) -> None:
        super().__init__(preset, **kwargs)
        self.name = f"tiny-vots-{preset}"
        self.protocol = (
            f"VOTS measures, {self.amount()}, all frames after that in which a target is given, mean over objects, "
            "then sequences"
        )

    def scored_frames(self, video: Video) -> Sequence[int]:
        """Return all frames."""
        return range(len(video))

    def metric(self) -> VOTSMetrics:
        """Create the metric: the VOTS measures without the initialisation frame."""
        return VOTSMetrics("skip")

    def measure_frame(self, pred: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return overlap, presence and report of one frame, float64 (N,). See ``VOSBenchmark.measure_frame``."""
        return dict(zip(("overlap", "present", "reported"), measure_regions(pred, target), strict=True))

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Return the arguments of ``VOTSMetrics.extend``, float64 (T, N) each. See ``Benchmark.measure``."""
        measured = super().measure(video, answers)
        starts = {prompt.target: prompt.frame for prompt in video.prompts}
        age = torch.arange(len(video))[:, None] - torch.tensor([starts[target] for target in video.targets])
        overlap = measured["overlap"].masked_fill(age < 0, torch.nan)
        return {**measured, "overlap": overlap, "initialised": (age == 0).double()}
