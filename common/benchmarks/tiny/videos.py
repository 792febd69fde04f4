"""Tiny: held-out generated videos, scored like DAVIS. No download; minutes on a CPU."""

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
    """Videos that the code makes; every split is ``test``.

    Args:
        clips: the videos, held out from training.
    """

    source = "made by the code"
    splits = ("test",)

    def __init__(self, clips: SyntheticClips) -> None:
        super().__init__(split="test")
        self.clips = clips

    def listed(self) -> list[str]:
        """Names of the generated videos."""
        return [self.clips.name(index) for index in range(len(self.clips))]

    def open(self, id: str) -> Video:
        """One video."""
        return self.clips[self.listed().index(id)]

    def amount(self) -> str:
        """For the protocol: how many videos of which length, size and seed."""
        height, width = self.clips.size
        return (
            f"{len(self.clips)} generated videos of {self.clips.frames} frames at {height}x{width}, "
            f"seed {self.clips.seed}"
        )


class Tiny(Generated, VOSBenchmark):
    """Generated videos that no training seed can reach.

    Args:
        preset: see ``SyntheticClips``.
        videos: number of videos.
        frames: frames of each.
        size: (H, W) in pixels.
        seed: chooses the videos.
    """

    def __init__(
        self,
        preset: str = "easy",
        videos: int = 8,
        frames: int = 24,
        size: tuple[int, int] = (128, 128),
        seed: int = 10_000,
    ) -> None:
        super().__init__(SyntheticClips(preset, length=videos, frames=frames, size=size, seed=seed, held_out=True))
        self.name = f"tiny-{preset}"
        self.protocol = f"J&F, {self.amount()}, all frames but first and last, flat mean over targets"


class TinyVOTS(Tiny):
    """Generated videos by the measures of VOTS; the frame in which a target is given and those before do not count.

    Args:
        preset: see ``SyntheticClips``.
        kwargs: see ``Tiny``.
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
        """All."""
        return range(len(video))

    def metric(self) -> VOTSMetrics:
        """The measures of the challenge."""
        return VOTSMetrics("skip")

    def measure_frame(self, pred: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Overlap, presence and report of one frame, float64 (N,), of masks bool (N, H, W)."""
        return dict(zip(("overlap", "present", "reported"), measure_regions(pred, target), strict=True))

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Those of one video, float64 (T, N); see ``VOTSMetrics.extend``."""
        measured = super().measure(video, answers)
        starts = {prompt.target: prompt.frame for prompt in video.prompts}
        since = torch.arange(len(video))[:, None] - torch.tensor([starts[target] for target in video.targets])
        overlap = measured["overlap"].masked_fill(since < 0, torch.nan)
        return {**measured, "overlap": overlap, "given": (since == 0).double()}
