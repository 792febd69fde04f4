"""What the benchmarks of referring video object segmentation share: J&F of each expression by itself."""

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
    """A benchmark of expressions, one target each, that are given in frame 0; all annotated frames count.

    A submission is ``Annotations/<video>/<expression>/<frame>.png``, 8-bit, 255 on the target and 0 elsewhere, for
    every frame. ``attributes["expressions"]`` of a video maps each target to the data set's number of its expression;
    without it, the first is 0.
    """

    task = "RefVOS"

    def scored_frames(self, video: Video) -> Sequence[int]:
        """All annotated frames."""
        return range(len(video)) if video.annotated is None else video.annotated

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """``Annotations/<video>/<expression>/<frame>.png`` for every frame."""
        names = expression_ids(video)
        for answer in answers:
            for target, mask in zip(video.targets, answer.select(video.targets), strict=True):
                path = folder / "Annotations" / video.id / names[target] / f"{video.name(answer.frame)}.png"
                write_label_map(path, mask.to(torch.uint8) * VOID)
            yield answer

    def read(self, video: Video, folder: Path, faults: SubmissionErrors) -> Iterator[FrameMasks]:
        """The scored frames of a tree of binary PNGs, with or without ``Annotations`` around it, or of COCO RLE."""
        inside = folder / "Annotations"
        return read_numbered(video, self.scored_frames(video), inside if inside.is_dir() else folder, faults)


def expression_ids(video: Video) -> dict[int, str]:
    """The data set's number of each target's expression."""
    known = video.attributes.get("expressions", {})
    return {target: str(known.get(target, place)) for place, target in enumerate(video.targets)}


def read_numbered(video: Video, frames: Sequence[int], folder: Path, faults: SubmissionErrors) -> Iterator[FrameMasks]:
    """Masks of the targets, in folders that are named after their expressions. See ``read_masks``."""
    by_number = replace(video, targets=tuple(int(name) for name in expression_ids(video).values()))
    for answer in read_masks(by_number, frames, folder, faults):
        yield replace(answer, targets=video.targets)
