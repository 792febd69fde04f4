"""VQS-4K: visual query segmentation. The layout is a proposal: the data is not public yet.

Source: Towards Visual Query Segmentation in the Wild (4111 videos at 6 fps, 3289 train and 822 test).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.benchmarks.base import Benchmark
from common.benchmarks.layouts.per_video import AbsentFrames, read_list
from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.tasks.vos import select_answers, true_masks
from common.benchmarks.vqs.masks import TARGET, Occurrences, read_target, read_target_masks
from common.errors import InputError
from common.files import read_json
from common.metrics.vqs import VQSMetrics, mask_areas
from common.video import FrameMasks, Prompt, Video
from common.video.images import read_image
from common.video.masks import write_label_map
from common.video.readers import ImageFolder


class VQSBenchmark(Benchmark):
    """A benchmark of visual queries with one target per video, scored on all frames by ``VQSMetrics``.

    A submission has ``<video>/<frame>.png`` with one label, or ``{"videos": {"<video>": {"<frame>": COCO RLE}}}`` in
    one JSON file (see ``rle_masks``). In both, a missing frame means that the target is absent; a video in which it
    never appears must be included nevertheless.

    Attributes:
        measures: description of the metric, for the protocol line.
    """

    task = "VQS"
    measures = (
        "stAP, tAP: means over videos of volume and frame overlap; Rec: IoU > 0.5, pooled over frames that show the "
        "target; Succ: overlap > 0.2"
    )
    numbers = ("stAP", "stAP50", "stAP75", "tAP", "tAP50", "tAP75", "Rec", "Succ")

    def metric(self) -> VQSMetrics:
        """Create the metric with its default definitions."""
        return VQSMetrics()

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Count the pixels of one video, float64 (T, 1) each on the CPU. See ``Benchmark.measure``."""
        if video.truth is None:
            raise InputError(f"video {video.id} of {self.name} {self.split} cannot be scored: it has no annotations")
        rows = []
        for answer in select_answers(video, self.scored_frames(video), answers):
            target, pred = true_masks(video, answer), answer.select((TARGET,))
            rows.append(mask_areas(pred.flatten(1), target.flatten(1)))
        return {key: torch.stack([row[key] for row in rows]).cpu() for key in rows[0]}

    # Submissions.

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """Write ``<video>/<frame>.png`` for every frame with a mask, or one empty map if there is none.

        See ``Benchmark.write``.
        """
        visible = False
        for answer in answers:
            path, mask = folder / video.id / f"{video.name(answer.frame)}.png", answer.select((TARGET,))[0]
            visible |= bool(mask.any())
            if mask.any() or (not visible and answer.frame == len(video) - 1):
                write_label_map(path, mask.to(torch.uint8))
            else:
                path.unlink(missing_ok=True)  # written by an earlier run
            yield answer

    def read(self, video: Video, folder: Path, errors: SubmissionErrors) -> Iterator[FrameMasks]:
        """Read all frames. See ``read_target_masks``."""
        return read_target_masks(video, folder, errors)


class VQS4K(VQSBenchmark):
    """VQS-4K in a proposed layout: segment every occurrence of the target of a query image.

    The layout has ``ImageSets/<split>.txt``; frames ``JPEGImages/<video>/000000.jpg``; masks
    ``Annotations/<video>/000012.png`` with label 1, only for frames that contain the target;
    ``Queries/<video>/query.jpg`` and its mask ``query.png``; ``meta/<split>.json``, ``{"videos": {"<video>":
    {"category", "coarse", "fps", "length", "height", "width", "occurrences": [[first, last], ...], "mean_area"}}}``.
    The annotations of a video without ``occurrences`` are hidden. Without ``JPEGImages``, submissions can still be
    scored.

    Args:
        root: folder of the data.
        split: ``train`` or ``test``.
        videos: names of the videos to use, in this order; default: all videos of the split.
    """

    name = "vqs4k"
    folders = ("vqs4k",)
    splits = ("train", "test")
    layout = """
        ImageSets/test.txt                      names, one a line
        meta/test.json                          what is known of each video, see docs/benchmarks.md
        JPEGImages/<video>/000000.jpg
        Annotations/<video>/000012.png          label 1; only frames that show the target
        Queries/<video>/query.jpg, query.png    the query and its mask"""
    source = "its authors, once it is released (the suite reads a proposed layout, see docs/benchmarks.md)"
    protocol = f"proposed layout and evaluator: masks on all frames at 6 fps; {VQSBenchmark.measures}"

    def __init__(
        self, root: str | Path | None = None, split: str = "test", videos: Sequence[str] | None = None
    ) -> None:
        super().__init__(root, split, videos)

    def list_videos(self) -> list[str]:
        """Return the names in the split file."""
        return read_list(self.root / "ImageSets" / f"{self.split}.txt")

    @cached_property
    def meta(self) -> dict[str, Any]:
        """Entry of each video in the meta file."""
        videos = read_json(self._meta_file, "list of videos").get("videos")
        if not isinstance(videos, dict):
            raise InputError(f'{self._meta_file}: must be {{"videos": {{"<video>": {{...}}}}}}')
        return videos

    @property
    def _meta_file(self) -> Path:
        return self.root / "meta" / f"{self.split}.json"

    def open(self, id: str) -> Video:
        """Open a video.

        Args:
            id: name of the video.

        Raises:
            InputError: a file is missing, or frames, masks and meta file are inconsistent.
        """
        info = self._video_info(id)
        size = info["height"], info["width"]
        frames = self._frames(id, info["length"], size)
        truth = None
        if "occurrences" in info:
            truth = Occurrences(self.root / "Annotations" / id, frames.names, size)
            truth.check(info["occurrences"], f"{self._meta_file}, video {id}")
        image = read_image(self.root / "Queries" / id / "query.jpg")
        mask = read_target(self.root / "Queries" / id / "query.png", image.shape[:2])
        return Video(
            id=id,
            frames=frames,
            fps=float(info.get("fps", 6)),
            prompts=(Prompt(TARGET, 0, mask=mask, image=image),),
            targets=(TARGET,),
            truth=truth,
            names=frames.names,
            # Occurrences are ground truth and must not reach a method.
            attributes={key: value for key, value in info.items() if key != "occurrences"},
        )

    def _video_info(self, id: str) -> dict[str, Any]:
        info = self.meta.get(id)
        if not isinstance(info, dict):
            raise InputError(f"{self._meta_file}: video {id} is not in it, but in the split file")
        for key in ("length", "height", "width"):
            if not isinstance(info.get(key), int) or info[key] < 1:
                raise InputError(f"{self._meta_file}, video {id}: {key} must be a number of at least 1")
        return info

    def _frames(self, id: str, length: int, size: tuple[int, int]) -> ImageFolder | AbsentFrames:
        folder = self.root / "JPEGImages" / id
        if not folder.parent.is_dir():
            return AbsentFrames(folder, [f"{frame:06d}" for frame in range(length)])
        frames = ImageFolder(folder)
        if len(frames) != length:
            raise InputError(f"{folder}: {len(frames)} frames, but {self._meta_file} says {length}; is one missing?")
        if frames.size != size:
            raise InputError(f"{folder}: frames of {frames.size} (height, width), but {self._meta_file} says {size}")
        return frames
