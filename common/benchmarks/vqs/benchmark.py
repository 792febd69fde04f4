"""VQS-4K: visual query segmentation. The layout is proposed: the data is not public yet.

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
from common.benchmarks.plain import read_json
from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.tasks.vos import answered, true_masks
from common.benchmarks.vqs.masks import TARGET, Occurrences, read_answers, read_target
from common.errors import InputError
from common.metrics.vqs import VQSMetrics, mask_areas
from common.video import FrameMasks, Prompt, Video
from common.video.images import read_image
from common.video.masks import write_label_map
from common.video.readers import ImageFolder


class VQSBenchmark(Benchmark):
    """A benchmark of visual queries with one target a video, scored on all frames by ``VQSMetrics``.

    A submission is ``<video>/<frame>.png`` with one label, or ``{"videos": {"<video>": {"<frame>": COCO RLE}}}`` in one
    JSON file (see ``rle_masks``). In both the target is absent from a frame that is not there; a video in which it is
    never seen must be there nevertheless.
    """

    task = "VQS"
    readings = (
        "stAP, tAP: means over videos of volume and frame overlap; Rec: IoU > 0.5, pooled over frames that show the "
        "target; Succ: overlap > 0.2"
    )
    numbers = ("stAP", "stAP50", "stAP75", "tAP", "tAP50", "tAP75", "Rec", "Succ")

    def metric(self) -> VQSMetrics:
        """Fresh metrics in the recommended readings."""
        return VQSMetrics()

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Pixels of one video, float64 (T, 1) each, on the CPU. See ``Benchmark.measure``."""
        if video.truth is None:
            raise InputError(f"video {video.id} of {self.name} {self.split} cannot be scored: it has no annotations")
        rows = []
        for answer in answered(video, self.scored_frames(video), answers):
            target, pred = true_masks(video, answer), answer.select((TARGET,))
            rows.append(mask_areas(pred.flatten(1), target.flatten(1)))
        return {key: torch.stack([row[key] for row in rows]).cpu() for key in rows[0]}

    # Submissions.

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """``<video>/<frame>.png`` for every frame with a mask; without any, an empty one for the last frame."""
        seen = False
        for answer in answers:
            path, mask = folder / video.id / f"{video.name(answer.frame)}.png", answer.select((TARGET,))[0]
            seen |= bool(mask.any())
            if mask.any() or (not seen and answer.frame == len(video) - 1):
                write_label_map(path, mask.to(torch.uint8))
            else:
                path.unlink(missing_ok=True)  # of an earlier run
            yield answer

    def read(self, video: Video, folder: Path, faults: SubmissionErrors) -> Iterator[FrameMasks]:
        """All frames. See ``read_answers``."""
        return read_answers(video, folder, faults)


class VQS4K(VQSBenchmark):
    """VQS-4K in a proposed layout: find every occurrence of the target of a query image, as masks.

    ``ImageSets/<split>.txt``; frames ``JPEGImages/<video>/000000.jpg``; masks ``Annotations/<video>/000012.png`` with
    label 1, only for frames that show the target; ``Queries/<video>/query.jpg`` and its mask ``query.png``;
    ``meta/<split>.json``: ``{"videos": {"<video>": {"category", "coarse", "fps", "length", "height", "width",
    "occurrences": [[first, last], ...], "mean_area"}}}``. A video without ``occurrences`` hides its truth. Where
    ``JPEGImages`` is missing altogether, submissions can still be scored.

    Args:
        root: folder of the data.
        split: ``train`` or ``test``.
        videos: only these, in this order; default: the whole split.
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
    protocol = f"proposed layout and evaluator: masks on all frames at 6 fps; {VQSBenchmark.readings}"

    def __init__(
        self, root: str | Path | None = None, split: str = "test", videos: Sequence[str] | None = None
    ) -> None:
        super().__init__(root, split, videos)

    def listed(self) -> list[str]:
        """Names of the split file."""
        return read_list(self.root / "ImageSets" / f"{self.split}.txt")

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What is known of each video of the split."""
        videos = read_json(self._meta_file, "list of videos").get("videos")
        if not isinstance(videos, dict):
            raise InputError(f'{self._meta_file}: must be {{"videos": {{"<video>": {{...}}}}}}')
        return videos

    @property
    def _meta_file(self) -> Path:
        return self.root / "meta" / f"{self.split}.json"

    def open(self, id: str) -> Video:
        """One video.

        Raises:
            InputError: something is missing, or frames, masks and ``meta`` do not fit each other; names the video.
        """
        known = self._known(id)
        size = known["height"], known["width"]
        frames = self._frames(id, known["length"], size)
        truth = None
        if "occurrences" in known:
            truth = Occurrences(self.root / "Annotations" / id, frames.names, size)
            truth.check(known["occurrences"], f"{self._meta_file}, video {id}")
        image = read_image(self.root / "Queries" / id / "query.jpg")
        mask = read_target(self.root / "Queries" / id / "query.png", image.shape[:2])
        return Video(
            id=id,
            frames=frames,
            fps=float(known.get("fps", 6)),
            prompts=(Prompt(TARGET, 0, mask=mask, image=image),),
            targets=(TARGET,),
            truth=truth,
            names=frames.names,
            attributes={key: value for key, value in known.items() if key != "occurrences"},  # the answer
        )

    def _known(self, id: str) -> dict[str, Any]:
        known = self.meta.get(id)
        if not isinstance(known, dict):
            raise InputError(f"{self._meta_file}: video {id} is not in it, but in the split file")
        for key in ("length", "height", "width"):
            if not isinstance(known.get(key), int) or known[key] < 1:
                raise InputError(f"{self._meta_file}, video {id}: {key} must be a number of at least 1")
        return known

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
