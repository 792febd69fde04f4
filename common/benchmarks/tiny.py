"""Tiny: held-out generated videos, scored like DAVIS. No download; minutes on a CPU."""

from __future__ import annotations

from common.benchmarks.base import Benchmark
from common.benchmarks.vos import VosBenchmark
from common.video import Video
from common.video.synthetic import SyntheticClips


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


class Tiny(Generated, VosBenchmark):
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
