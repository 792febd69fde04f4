"""Tiny visual queries: held-out generated videos, scored like VQS-4K. No download; minutes on a CPU."""

from __future__ import annotations

from common.benchmarks.vqs import VqsBenchmark
from common.video import Video
from common.video.synthetic import SyntheticQueries


class TinyVqs(VqsBenchmark):
    """Generated videos that no training seed can reach; in each, one target to find wherever it shows.

    Args:
        preset: see ``SyntheticQueries``.
        videos: number of videos.
        frames: frames of each.
        size: (H, W) in pixels.
        seed: chooses the videos.
    """

    source = "made by the code"
    splits = ("test",)

    def __init__(
        self,
        preset: str = "query",
        videos: int = 24,
        frames: int = 48,
        size: tuple[int, int] = (128, 128),
        seed: int = 10_000,
    ) -> None:
        super().__init__(split="test")
        self.clips = SyntheticQueries(preset, length=videos, frames=frames, size=size, seed=seed, held_out=True)
        self.name = f"tiny-{preset.replace('query', 'vqs')}"
        height, width = self.clips.size
        self.protocol = (
            f"VQS-4K's measures, {videos} generated videos of {frames} frames at {height}x{width}, seed {seed}, "
            "all frames; stAP, tAP: means over videos of volume and frame overlap; Rec: IoU > 0.5, pooled over frames "
            "that show the target; Succ: overlap > 0.2"
        )

    def listed(self) -> list[str]:
        """Names of the generated videos."""
        return [self.clips.name(index) for index in range(len(self.clips))]

    def open(self, id: str) -> Video:
        """One video."""
        return self.clips[self.listed().index(id)]
