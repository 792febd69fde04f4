"""Tiny visual queries: held-out generated videos, scored like VQS-4K. No download; minutes on a CPU."""

from __future__ import annotations

from common.benchmarks.tiny.videos import Generated
from common.benchmarks.vqs.benchmark import VQSBenchmark
from common.synthetic import SyntheticQueries


class TinyVQS(Generated, VQSBenchmark):
    """Generated videos that no training seed can reach; in each, one target to find wherever it shows.

    Args:
        preset: see ``SyntheticQueries``.
        videos: number of videos.
        frames: frames of each.
        size: (H, W) in pixels.
        seed: chooses the videos.
    """

    def __init__(
        self,
        preset: str = "query",
        videos: int = 24,
        frames: int = 48,
        size: tuple[int, int] = (128, 128),
        seed: int = 10_000,
    ) -> None:
        super().__init__(SyntheticQueries(preset, length=videos, frames=frames, size=size, seed=seed, held_out=True))
        self.name = f"tiny-{preset.replace('query', 'vqs')}"
        self.protocol = f"VQS-4K's measures, {self.amount()}, all frames; {self.readings}"
