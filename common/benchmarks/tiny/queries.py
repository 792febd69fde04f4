"""Generated benchmark of visual queries: held-out synthetic videos, scored like VQS-4K."""

from __future__ import annotations

from typing import Any

from common.benchmarks.tiny.videos import Generated
from common.benchmarks.vqs.benchmark import VQSBenchmark
from common.synthetic import SyntheticQueries


class TinyVQS(Generated, VQSBenchmark):
    """Generated videos with one target each, to be segmented in every frame that contains it.

    Args:
        preset: see ``SyntheticQueries``.
        videos: number of videos.
        frames: number of frames per video.
        kwargs: further arguments of ``Generated``.
    """

    generator = SyntheticQueries

    def __init__(self, preset: str = "query", videos: int = 24, frames: int = 48, **kwargs: Any) -> None:
        super().__init__(preset, videos, frames, **kwargs)
        self.name = f"tiny-{preset.replace('query', 'vqs')}"
        self.protocol = f"VQS-4K's measures, {self.amount()}, all frames; {self.measures}"
