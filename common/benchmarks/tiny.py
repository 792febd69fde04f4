"""Tiny: held-out generated videos, scored like DAVIS. No download; minutes on a CPU."""

from __future__ import annotations

from common.benchmarks.vos import VosBenchmark
from common.video import Video
from common.video.synthetic import SyntheticClips


class Tiny(VosBenchmark):
    """Generated videos that no training seed can reach.

    Args:
        preset: see ``SyntheticClips``.
        videos: number of videos.
        frames: frames of each.
        size: (H, W) in pixels.
        seed: chooses the videos.
    """

    source = "made by the code"
    splits = ("test",)

    def __init__(
        self,
        preset: str = "easy",
        videos: int = 8,
        frames: int = 24,
        size: tuple[int, int] = (128, 128),
        seed: int = 10_000,
    ) -> None:
        super().__init__(split="test")
        self.clips = SyntheticClips(preset, length=videos, frames=frames, size=size, seed=seed, held_out=True)
        self.name = f"tiny-{preset}"
        height, width = self.clips.size
        self.protocol = (
            f"J&F, {videos} generated videos of {frames} frames at {height}x{width}, seed {seed}, "
            "all frames but first and last, flat mean over targets"
        )

    def listed(self) -> list[str]:
        """Names of the generated videos."""
        return [self.clips.name(index) for index in range(len(self.clips))]

    def open(self, id: str) -> Video:
        """One video."""
        return self.clips[self.listed().index(id)]
