"""What the benchmarks of semi-supervised video object segmentation share: J&F over streamed answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from common.benchmarks.base import Benchmark
from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.masks import read_masks, write_label_maps, zip_folder
from common.errors import InputError
from common.metrics import JAndF, j_and_f
from common.metrics.rows import RowMetric
from common.video import FrameMasks, Video


class VOSBenchmark(Benchmark):
    """A benchmark scored by J&F: every target of ``video.targets`` on every scored frame, flat mean over targets.

    A target without an answer is an empty mask; an answer for an id that is not asked for is left out.

    Attributes:
        first_sight: a target counts from the first scored frame that shows it in annotation or answer, and not at all
            if no annotation shows it (the rule of vos-benchmark). Otherwise it counts in every scored frame.
        any_label: one target, which is everything that is marked in a submission's label maps.
    """

    numbers: tuple[str, ...] = ("J&F", "J", "F")
    first_sight = False
    any_label = False

    def scored_frames(self, video: Video) -> Sequence[int]:
        """All annotated frames but the first and the last (DAVIS, semi-supervised)."""
        return super().scored_frames(video)[1:-1]

    def counts(self, video: Video) -> Tensor | None:
        """Which scored frames count for which target, bool (T, N); None = all."""
        return None

    def metric(self) -> RowMetric:
        """A fresh J&F."""
        return JAndF()

    def measure_frame(self, pred: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Numbers of one frame, float64 (N,) each, of masks bool (N, H, W); the keys are arguments of ``extend``."""
        j, f = j_and_f(pred, target)
        return {"j": j, "f": f}

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """J and F of one video, float64 (T, N) each for T scored frames, on the CPU. See ``Benchmark.measure``."""
        frames = self.scored_frames(video)
        if video.truth is None or not frames:
            reason = "it has no annotations" if video.truth is None else f"none of its {len(video)} frames count"
            raise InputError(f"video {video.id} of {self.name} {self.split} cannot be scored: {reason}")
        rows, shown = [], []
        for answer in answered(video, frames, answers):
            pred, target = answer.select(video.targets), true_masks(video, answer)
            rows.append(self.measure_frame(pred, target))
            shown.append(torch.stack([target.flatten(1).any(1), (pred | target).flatten(1).any(1)]))
        measured = {key: torch.stack([row[key] for row in rows]).cpu() for key in rows[0]}
        counts = self.counts(video)
        if self.first_sight:
            may = torch.ones((), dtype=torch.bool) if counts is None else counts
            in_truth, in_either = torch.stack(shown, 1).cpu() & may
            counts = in_either.cummax(0).values & in_truth.any(0) & may
        if counts is not None:
            measured = {key: values.masked_fill(~counts, torch.nan) for key, values in measured.items()}
        return measured

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """Palette PNG ``<video>/<frame>.png`` for every frame."""
        return write_label_maps(video, answers, folder)

    def read(self, video: Video, folder: Path, faults: SubmissionErrors) -> Iterator[FrameMasks]:
        """The scored frames of palette PNGs, of a tree of binary PNGs, or of COCO RLE. See ``read_masks``."""
        return read_masks(video, self.scored_frames(video), folder, faults, self.any_label)

    def pack(self, folder: Path) -> Path | None:
        """``<folder>.zip`` with the videos' folders at its top."""
        return zip_folder(folder)


def answered(video: Video, frames: Iterable[int], answers: Iterable[FrameMasks]) -> Iterator[FrameMasks]:
    """The answers to the frames asked for.

    Args:
        video: for the message.
        frames: indices, ascending.
        answers: in frame order; all are consumed.

    Raises:
        InputError: an answer is missing, or they are not in order.
    """
    waiting = iter(frames)
    expected, last = next(waiting, None), -1
    for answer in answers:
        if answer.frame <= last:
            raise InputError(f"video {video.id}: the answer to frame {answer.frame} came after that to frame {last}")
        last = answer.frame
        if expected is not None and answer.frame > expected:
            raise InputError(f"video {video.id}: frame {expected} has no answer, frame {answer.frame} came instead")
        if answer.frame == expected:
            yield answer
            expected = next(waiting, None)
    if expected is not None:
        raise InputError(f"video {video.id}: frame {expected} has no answer ({len(video)} frames)")


def true_masks(video: Video, answer: FrameMasks) -> Tensor:
    """Annotation bool (N, H, W) of the answered frame, on the answer's device.

    Raises:
        InputError: the frame is not annotated, or the answer has another size.
    """
    assert video.truth is not None
    truth, where = video.truth[answer.frame], f"video {video.id}, frame {video.name(answer.frame)}"
    if truth is None:
        raise InputError(f"{where}: it counts but has no annotation")
    if truth.shape[1:] != answer.masks.shape[1:]:
        got, want = tuple(answer.masks.shape[1:]), tuple(truth.shape[1:])
        raise InputError(f"{where}: the answer is {got} but the annotation is {want}; answer at the video's resolution")
    return truth.to(answer.masks.device)
