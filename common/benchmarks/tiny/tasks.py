"""Tiny benchmarks of the category and text tasks: held-out generated videos in which every pixel has a category."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from common.benchmarks.tasks.referring import RefBenchmark
from common.benchmarks.tasks.vis import VISBenchmark
from common.benchmarks.tasks.vps import VPSBenchmark
from common.benchmarks.tasks.vss import VSSBenchmark
from common.benchmarks.tiny.videos import Generated
from common.benchmarks.viposeg import PVOSBenchmark
from common.metrics.viposeg import SUBSETS, VIPOSegMetrics
from common.synthetic import SyntheticPanoptic
from common.video import Video
from common.video.task_views import as_instances, as_panoptic, as_referred, as_semantic


class TinyPanoptic(Generated):
    """Generated videos that no training seed can reach, objects before sky, ground and water.

    Attributes:
        measures: what is measured, for the protocol.

    Args:
        videos: number of videos.
        frames: frames of each.
        size: (H, W) in pixels.
        seed: chooses the videos.
    """

    measures: str

    def __init__(
        self, videos: int = 16, frames: int = 24, size: tuple[int, int] = (128, 128), seed: int = 10_000
    ) -> None:
        super().__init__(SyntheticPanoptic(length=videos, frames=frames, size=size, seed=seed, held_out=True))
        self.protocol = f"{self.measures}; {self.amount()}, all frames"


class TinyVIS(TinyPanoptic, VISBenchmark):
    """The objects and their shapes. See ``TinyPanoptic``."""

    name = "tiny-vis"
    measures = "AP of tracks as in YouTube-VIS, 5 categories"

    def open(self, id: str) -> Video:
        """One video."""
        video = as_instances(super().open(id))
        return replace(video, attributes={**video.attributes, "video_id": id})


class TinyVSS(TinyPanoptic, VSSBenchmark):
    """The category of every pixel. See ``TinyPanoptic``."""

    name = "tiny-vss"
    measures = "mIoU, mVC8 and mVC16 as in VSPW, 8 categories"

    def open(self, id: str) -> Video:
        """One video."""
        return as_semantic(super().open(id))


class TinyVPS(TinyPanoptic, VPSBenchmark):
    """The objects and the regions behind them. See ``TinyPanoptic``."""

    name = "tiny-vps"
    measures = (
        "VPQ over windows of 1, 2, 4, 6 and 8 frames and STQ, all true tubes count; 8 categories, 3 of them stuff"
    )

    def open(self, id: str) -> Video:
        """One video."""
        return as_panoptic(super().open(id))


class TinyRef(TinyPanoptic, RefBenchmark):
    """Each object by an expression. See ``TinyPanoptic``."""

    name = "tiny-ref"
    measures = "J&F, flat mean over expressions"

    def open(self, id: str) -> Video:
        """One video."""
        return as_referred(super().open(id))


class TinyPVOS(TinyPanoptic, PVOSBenchmark):
    """The mask of everything that a video shows, objects and regions, where it first appears. See ``TinyPanoptic``."""

    name = "tiny-pvos"
    numbers = ("G", "thing_seen", "stuff_seen")
    measures = (
        "G: mean of things and stuff (training shows all categories), each the mean of mask and boundary IoU over "
        "frames and targets given in an earlier frame"
    )

    def subsets(self, video: Video) -> list[int]:
        """Things and stuff, all of them seen."""
        stuff = [video.vocabulary[video.categories[target]] in video.stuff for target in video.targets]
        return [SUBSETS.index("stuff_seen" if one else "thing_seen") for one in stuff]

    def metric(self) -> SeenMetrics:
        """A fresh G."""
        return SeenMetrics()


class SeenMetrics(VIPOSegMetrics):
    """VIPOSeg's measures where no class is unseen: ``G`` is the mean of the two subsets that there are."""

    def compute(self) -> dict[str, Tensor]:
        """The table's numbers as float64 scalars; NaN before the first object."""
        out = super().compute()
        return {**out, "G": (out["thing_seen"] + out["stuff_seen"]) / 2}
