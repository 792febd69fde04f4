"""VOST: video object segmentation under transformations.

Source: Tokmakov et al., "Breaking the 'Object' in Video Object Segmentation", CVPR 2023.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from torch import Tensor

from common.benchmarks.layouts.per_video import FolderVOS, MaskFolder, read_list
from common.errors import InputError
from common.metrics import VOSTMetrics, region_similarity
from common.metrics.rows import RowMetric
from common.video import FrameMasks, Video
from common.video.masks import VOID, read_label_map


class VOST(FolderVOS):
    """VOST: J over all annotated frames but the first and the last, and over the last quarter of them.

    The objects are the ids from 1 to the highest of the first annotated frame; other ids are ignored.

    Args:
        root: folder with ``JPEGImages``, ``Annotations`` and ``ImageSets``.
        split: name of a file in ``ImageSets``.
        ignore_void: exclude pixels labelled 255, where annotators were uncertain. Otherwise they are background, as in
            the official scorer.
        contours: score J&F, J and F instead, as papers do that treat VOST like DAVIS; this is another protocol.
        videos: names of the videos to use, in this order; default: all videos of the split.
    """

    name = "vost"
    numbers: tuple[str, ...] = ("J", "J_tr")
    folders = ("vost",)
    source = "https://www.vostdataset.org"
    splits = ("val", "train", "test")
    layout = """
        JPEGImages/<video>/frame00012.jpg
        Annotations/<video>/frame00012.png
        ImageSets/val.txt                      the videos, one a line; the same for train and test"""
    fps = 5.0
    gaps = True  # a missing frame is found by its label map
    sparse = True

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "val",
        ignore_void: bool = False,
        contours: bool = False,
        videos: Sequence[str] | None = None,
    ) -> None:
        super().__init__(root, split, videos)
        self.ignore_void, self.contours = ignore_void, contours
        self.numbers = ("J&F", "J", "F") if contours else VOST.numbers
        score = "J&F" if contours else "J, and J_tr over the last quarter"
        void = "left out" if ignore_void else "background"
        frames = "all annotated frames but first and last"
        self.protocol = f"{score}; {frames}, 255 is {void}, flat mean over objects of the first frame"

    def list_videos(self) -> list[str]:
        """Return the names in the split file."""
        return read_list(self.root / "ImageSets" / f"{self.split}.txt")

    def starts(self, id: str, truth: MaskFolder) -> dict[int, int]:
        """Return the first annotated frame for each target, by ascending id.

        Args:
            id: name of the video.
            truth: its label maps.

        Raises:
            InputError: a label map has no frame.
        """
        for name in sorted({path.stem for path in truth.folder.glob("*.png")} - set(truth.names)):
            raise InputError(f"{self.frames_folder(id) / name}.jpg: missing, but it is annotated; add the frame")
        return super().starts(id, truth)

    def metric(self) -> RowMetric:
        """Create the metric: J and J_tr, or J&F."""
        return super().metric() if self.contours else VOSTMetrics()

    def measure_frame(self, pred: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return J of one frame, and F with ``contours``, float64 (N,). See ``VOSBenchmark.measure_frame``."""
        return super().measure_frame(pred, target) if self.contours else {"j": region_similarity(pred, target)}

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Return J of one video, and F with ``contours``, float64 (T, N). See ``Benchmark.measure``."""
        return super().measure(video, remove_void(video, answers) if self.ignore_void else answers)


def remove_void(video: Video, answers: Iterable[FrameMasks]) -> Iterator[FrameMasks]:
    """Remove the void pixels from predictions. Annotations have none, so J then excludes these pixels.

    Args:
        video: the video.
        answers: its predictions.
    """
    assert isinstance(video.truth, MaskFolder)
    annotated = set(video.annotated or ())
    for answer in answers:
        if answer.frame in annotated:
            void = (read_label_map(video.truth.path(answer.frame)) == VOID).to(answer.masks.device)
            if void.shape == answer.masks.shape[1:]:  # otherwise ``true_masks`` reports the size
                answer = dataclasses.replace(answer, masks=answer.masks & ~void)
        yield answer
