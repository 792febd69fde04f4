"""Generated benchmarks of category and text tasks: synthetic videos in which every pixel has a category."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from common.benchmarks.tasks.pvos import PVOSBenchmark
from common.benchmarks.tasks.referring import RefBenchmark
from common.benchmarks.tasks.vis import VISBenchmark
from common.benchmarks.tasks.vps import VPSBenchmark
from common.benchmarks.tasks.vss import VSSBenchmark
from common.benchmarks.tiny.videos import Generated
from common.metrics.viposeg import SUBSETS, VIPOSegMetrics
from common.synthetic import SyntheticPanoptic
from common.video import Video
from common.video.task_views import as_instances, as_panoptic, as_referred, as_semantic


class TinyPanoptic(Generated):
    """Generated videos of objects in front of sky, ground and water.

    Attributes:
        measures: description of the metric, for the protocol line.

    Args:
        videos: number of videos.
        kwargs: further arguments of ``Generated``.
    """

    generator = SyntheticPanoptic
    measures: str

    def __init__(self, videos: int = 16, **kwargs: Any) -> None:
        super().__init__("panoptic", videos, **kwargs)
        self.protocol = f"{self.measures}; {self.amount()}, all frames"

    def open(self, id: str) -> Video:
        """Open a video.

        Args:
            id: name of the video.
        """
        return self.view(super().open(id))

    def view(self, video: Video) -> Video:
        """Convert a generated video to one of the task; by default it is unchanged.

        Args:
            video: the generated video.
        """
        return video


class TinyVIS(TinyPanoptic, VISBenchmark):
    """Video instance segmentation: the objects and their shapes. See ``TinyPanoptic``."""

    name = "tiny-vis"
    measures = "AP of tracks as in YouTube-VIS, 5 categories"

    def view(self, video: Video) -> Video:
        """Return the objects as instances, with the video's id for submissions."""
        return replace(as_instances(video), attributes={**video.attributes, "video_id": video.id})


class TinyVSS(TinyPanoptic, VSSBenchmark):
    """Video semantic segmentation: the category of every pixel. See ``TinyPanoptic``."""

    name = "tiny-vss"
    measures = "mIoU, mVC8 and mVC16 as in VSPW, 8 categories"

    def view(self, video: Video) -> Video:
        """Return the pixels of each category as one target."""
        return as_semantic(video)


class TinyVPS(TinyPanoptic, VPSBenchmark):
    """Video panoptic segmentation: the objects and the background regions. See ``TinyPanoptic``."""

    name = "tiny-vps"
    measures = (
        "VPQ over windows of 1, 2, 4, 6 and 8 frames and STQ, all true tubes count; 8 categories, 3 of them stuff"
    )

    def view(self, video: Video) -> Video:
        """Return all objects and regions as segments."""
        return as_panoptic(video)


class TinyRef(TinyPanoptic, RefBenchmark):
    """Referring video object segmentation: each object by an expression. See ``TinyPanoptic``."""

    name = "tiny-ref"
    measures = "J&F, flat mean over expressions"

    def view(self, video: Video) -> Video:
        """Return one target per expression."""
        return as_referred(video)


class TinyPVOS(TinyPanoptic, PVOSBenchmark):
    """Panoptic video object segmentation: the first mask of every object and region is given. See ``TinyPanoptic``."""

    name = "tiny-pvos"
    numbers = ("G", "thing_seen", "stuff_seen")
    measures = (
        "G: mean of things and stuff (training shows all categories), each the mean of mask and boundary IoU over "
        "frames and targets given in an earlier frame"
    )

    def subsets(self, video: Video) -> list[int]:
        """Return the subset of each target: things or stuff, all of them seen."""
        is_stuff = [video.vocabulary[video.categories[target]] in video.stuff for target in video.targets]
        return [SUBSETS.index("stuff_seen" if stuff else "thing_seen") for stuff in is_stuff]

    def metric(self) -> SeenMetrics:
        """Create the metric: G over seen classes."""
        return SeenMetrics()


class SeenMetrics(VIPOSegMetrics):
    """VIPOSeg's measures without unseen classes: ``G`` is the mean of the two seen subsets."""

    def compute(self) -> dict[str, Tensor]:
        """Return the numbers as float64 scalars; NaN before the first object."""
        out = super().compute()
        return {**out, "G": (out["thing_seen"] + out["stuff_seen"]) / 2}
