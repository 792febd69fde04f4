"""Base class of benchmarks of semi-supervised video object segmentation: J&F."""

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

    A target without prediction is an empty mask; predictions of other ids are ignored.

    Attributes:
        first_sight: score a target from the first scored frame in which annotation or prediction contain it, and not at
            all if no annotation does (the rule of vos-benchmark). Otherwise it is scored on every scored frame.
        single_object: merge all labels of a submission into one target.
    """

    numbers: tuple[str, ...] = ("J&F", "J", "F")
    first_sight = False
    single_object = False

    def scored_frames(self, video: Video) -> Sequence[int]:
        """Return all annotated frames but the first and the last, as in DAVIS."""
        return super().scored_frames(video)[1:-1]

    def counts(self, video: Video) -> Tensor | None:
        """Return which scored frames count for which target, bool (T, N); None means all.

        Args:
            video: the video.
        """
        return None

    def metric(self) -> RowMetric:
        """Create the metric: J&F."""
        return JAndF()

    def measure_frame(self, pred: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Measure one frame.

        Args:
            pred: predicted masks, bool (N, H, W).
            target: annotated masks, bool (N, H, W).

        Returns:
            float64 (N,) each; the keys are arguments of the metric's ``extend``.
        """
        j, f = j_and_f(pred, target)
        return {"j": j, "f": f}

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Return J and F on T scored frames, float64 (T, N) each on the CPU. See ``Benchmark.measure``."""
        frames = self.scored_frames(video)
        if video.truth is None or not frames:
            reason = "it has no annotations" if video.truth is None else f"none of its {len(video)} frames count"
            raise InputError(f"video {video.id} of {self.name} {self.split} cannot be scored: {reason}")
        rows, visible = [], []
        for answer in select_answers(video, frames, answers):
            pred, target = answer.select(video.targets), true_masks(video, answer)
            rows.append(self.measure_frame(pred, target))
            visible.append(torch.stack([target.flatten(1).any(1), (pred | target).flatten(1).any(1)]))
        measured = {key: torch.stack([row[key] for row in rows]).cpu() for key in rows[0]}
        counts = self.counts(video)
        if self.first_sight:
            allowed = torch.ones((), dtype=torch.bool) if counts is None else counts
            in_truth, in_either = torch.stack(visible, 1).cpu() & allowed
            # From the first frame in which either contains the target; never if the annotation never does.
            counts = in_either.cummax(0).values & in_truth.any(0) & allowed
        if counts is not None:
            measured = {key: values.masked_fill(~counts, torch.nan) for key, values in measured.items()}
        return measured

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """Write a palette PNG ``<video>/<frame>.png`` for every frame. See ``Benchmark.write``."""
        return write_label_maps(video, answers, folder)

    def read(self, video: Video, folder: Path, errors: SubmissionErrors) -> Iterator[FrameMasks]:
        """Read the scored frames from palette PNGs, binary PNGs per object, or COCO RLE. See ``read_masks``."""
        return read_masks(video, self.scored_frames(video), folder, errors, self.single_object)

    def pack(self, folder: Path) -> Path | None:
        """Write ``<folder>.zip`` with one folder per video. See ``Benchmark.pack``."""
        return zip_folder(folder)


def select_answers(video: Video, frames: Iterable[int], answers: Iterable[FrameMasks]) -> Iterator[FrameMasks]:
    """Select the predictions of some frames from a stream.

    Args:
        video: the video, for error messages.
        frames: frame indices, ascending.
        answers: predictions in frame order; all are consumed.

    Yields:
        The predictions of ``frames``.

    Raises:
        InputError: a prediction is missing or out of order.
    """
    remaining = iter(frames)
    expected, last = next(remaining, None), -1
    for answer in answers:
        if answer.frame <= last:
            raise InputError(f"video {video.id}: the answer to frame {answer.frame} came after that to frame {last}")
        last = answer.frame
        if expected is not None and answer.frame > expected:
            raise InputError(f"video {video.id}: frame {expected} has no answer, frame {answer.frame} came instead")
        if answer.frame == expected:
            yield answer
            expected = next(remaining, None)
    if expected is not None:
        raise InputError(f"video {video.id}: frame {expected} has no answer ({len(video)} frames)")


def true_size(video: Video) -> tuple[int, int]:
    """Return the size (H, W) of a video's annotations, or of its frames if there are none.

    Args:
        video: the video.
    """
    first = 0 if video.annotated is None else video.annotated[0]
    masks = None if video.truth is None else video.truth[first]
    height, width = video[first].shape[:2] if masks is None else masks.shape[1:]
    return height, width


def true_masks(video: Video, answer: FrameMasks) -> Tensor:
    """Return the annotation of a predicted frame, bool (N, H, W), on the prediction's device.

    Args:
        video: the video.
        answer: prediction of the frame.

    Raises:
        InputError: the frame is not annotated, or the prediction has another size.
    """
    assert video.truth is not None
    truth, where = video.truth[answer.frame], f"video {video.id}, frame {video.name(answer.frame)}"
    if truth is None:
        raise InputError(f"{where}: it counts but has no annotation")
    if truth.shape[1:] != answer.masks.shape[1:]:
        size, expected = tuple(answer.masks.shape[1:]), tuple(truth.shape[1:])
        raise InputError(
            f"{where}: the answer is {size} but the annotation is {expected}; answer at the video's resolution"
        )
    return truth.to(answer.masks.device)
