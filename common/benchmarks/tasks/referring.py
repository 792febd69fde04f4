"""Base class of benchmarks of referring video object segmentation: J&F per expression."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.masks import read_masks
from common.benchmarks.tasks.vos import VOSBenchmark
from common.video import FrameMasks, Video
from common.video.masks import VOID, write_label_map


class RefBenchmark(VOSBenchmark):
    """A benchmark of expressions, one target each, given in frame 0; all annotated frames are scored.

    A submission has an 8-bit PNG ``Annotations/<video>/<expression>/<frame>.png`` per frame, with 255 on the target and
    0 elsewhere. ``attributes["expressions"]`` of a video maps each target to the number of its expression in the data
    set; by default expressions are numbered from 0.
    """

    task = "RefVOS"

    def scored_frames(self, video: Video) -> Sequence[int]:
        """Return all annotated frames."""
        return range(len(video)) if video.annotated is None else video.annotated

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """Write ``Annotations/<video>/<expression>/<frame>.png`` for every frame. See ``Benchmark.write``."""
        names = expression_ids(video)
        for answer in answers:
            for target, mask in zip(video.targets, answer.select(video.targets), strict=True):
                path = folder / "Annotations" / video.id / names[target] / f"{video.name(answer.frame)}.png"
                write_label_map(path, mask.to(torch.uint8) * VOID)
            yield answer

    def read(self, video: Video, folder: Path, errors: SubmissionErrors) -> Iterator[FrameMasks]:
        """Read the scored frames from binary PNGs, with or without ``Annotations`` around them, or from COCO RLE."""
        nested = folder / "Annotations"
        return read_expression_masks(video, self.scored_frames(video), nested if nested.is_dir() else folder, errors)


def expression_ids(video: Video) -> dict[int, str]:
    """Return the number of each target's expression in the data set, as text.

    Args:
        video: the video.
    """
    numbers = video.attributes.get("expressions", {})
    return {target: str(numbers.get(target, index)) for index, target in enumerate(video.targets)}


def read_expression_masks(
    video: Video, frames: Sequence[int], folder: Path, errors: SubmissionErrors
) -> Iterator[FrameMasks]:
    """Read masks from folders named after the numbers of the expressions. See ``read_masks``.

    Args:
        video: the video.
        frames: frame indices, ascending.
        folder: folder of the submission.
        errors: collects faulty files.

    Yields:
        A prediction for every frame.
    """
    by_number = replace(video, targets=tuple(int(name) for name in expression_ids(video).values()))
    for answer in read_masks(by_number, frames, folder, errors):
        yield replace(answer, targets=video.targets)
