"""Score a submission written by any tool."""

from __future__ import annotations

import csv
import io
import math
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.benchmarks.base import Benchmark
from common.benchmarks.submissions.archive import Submission, open_submission
from common.benchmarks.submissions.errors import SubmissionErrors
from common.errors import InputError
from common.files import write_text
from common.records.environment import environment
from common.records.record import ResultRecord


@dataclass
class VideoScores:
    """Scores of one video.

    Attributes:
        video: name of the video.
        frames: names of the scored frames.
        objects: see ``Benchmark.columns``: mostly the name of each target, the data set's own where it has one.
        measured: result of ``Benchmark.measure``.
        numbers: scores of the video.
        per_object: scores of each target.
        notes: errors in the submission that were counted as empty masks.
    """

    video: str
    frames: list[str]
    objects: list[str]
    measured: dict[str, Tensor]
    numbers: dict[str, float]
    per_object: list[dict[str, float]]
    notes: list[str]


@dataclass
class Evaluation:
    """The scores of a submission.

    Attributes:
        benchmark: with the protocol.
        numbers: result of ``benchmark.metric().compute()``.
        videos: in the benchmark's order.
        surplus: names in the submission that are not videos of the split.
    """

    benchmark: Benchmark
    numbers: dict[str, float]
    videos: list[VideoScores]
    surplus: list[str]

    @property
    def notes(self) -> list[str]:
        """All errors that were counted as empty masks."""
        return [note for scores in self.videos for note in scores.notes]

    @property
    def protocol_id(self) -> str:
        """Protocol id, equal to that of a run of ``test`` on the same videos."""
        return self.benchmark.protocol_id({scores.video: len(scores.frames) for scores in self.videos})

    def record(self, method: str, config: dict[str, Any]) -> ResultRecord:
        """Return a record for the leaderboard.

        Args:
            method: name of the submission's method.
            config: settings of the evaluation.
        """
        return ResultRecord(
            method=method,
            benchmark=self.benchmark.name,
            split=self.benchmark.split,
            metrics=self.numbers,
            videos={scores.video: scores.numbers for scores in sorted(self.videos, key=lambda scores: scores.video)},
            protocol=self.benchmark.protocol,
            protocol_id=self.protocol_id,
            config={**config, "faults": len(self.notes)},
            weights_note="predictions",
            **environment(),
        )

    def write(self, folder: Path, method: str, config: dict[str, Any]) -> Path:
        """Write ``results.json``, ``per_object.csv`` and, where numbers per frame exist, ``per_frame.csv``.

        Args:
            folder: output folder.
            method: name of the submission's method.
            config: settings of the evaluation.

        Returns:
            Path of the record.
        """
        heads = {"per_object.csv": ("video", "object"), "per_frame.csv": ("video", "frame", "object")}
        for name, rows in (("per_object.csv", self._object_rows()), ("per_frame.csv", self._frame_rows())):
            lines = list(rows)
            if lines:
                write_text(folder / name, _csv((*heads[name], *lines[0][1]), lines))
        return self.record(method, config).write(folder)

    def _object_rows(self) -> Iterator[tuple[tuple[str, ...], dict[str, float]]]:
        for scores in self.videos:
            for name, numbers in zip(scores.objects, scores.per_object, strict=True):
                yield (scores.video, name), numbers

    def _frame_rows(self) -> Iterator[tuple[tuple[str, ...], dict[str, float]]]:
        """Yield all measurements of each frame and object."""
        for scores in self.videos:
            by_frame = {key: v.tolist() for key, v in scores.measured.items() if v.ndim == 2}
            by_frame = {key: values for key, values in by_frame.items() if len(values) == len(scores.frames)}
            for row, frame in enumerate(scores.frames if by_frame else ()):
                for column, name in enumerate(scores.objects):
                    yield (scores.video, frame, name), {key: v[row][column] for key, v in by_frame.items()}


def evaluate(
    benchmark: Benchmark,
    predictions: str | Path,
    empty: bool = False,
    jobs: int = 1,
    progress: Callable[[VideoScores], None] = lambda scores: None,
) -> Evaluation:
    """Score a submission. The result does not depend on the number of processes.

    Args:
        benchmark: with annotations.
        predictions: a folder or an archive, see ``open_submission``.
        empty: missing or invalid masks count as empty; otherwise they are an error.
        jobs: number of processes, each with one thread of torch; 1 = this process.
        progress: called with the scores of every video, in order.

    Raises:
        InputError: the data or the submission is missing or, unless ``empty``, invalid.
    """
    with open_submission(predictions, benchmark.ids) as submission:
        videos = []
        for scores in _scored(benchmark, submission, empty, jobs):
            videos.append(scores)
            progress(scores)
    metric = benchmark.metric()
    metric.distributed_available_fn = lambda: False
    for scores in videos:
        metric.extend(**scores.measured)
    numbers = {key: float(value) for key, value in metric.compute().items()}
    surplus = sorted({*submission.unexpected}.difference(benchmark.list_videos()))
    return Evaluation(benchmark, numbers, videos, surplus)


def _scored(benchmark: Benchmark, submission: Submission, empty: bool, jobs: int) -> Iterator[VideoScores]:
    """Yield scores in the benchmark's order; the first video in this order that fails raises its error."""
    work = partial(score_video, benchmark, submission, empty)
    jobs = min(jobs, len(benchmark))
    if jobs <= 1:
        yield from map(work, benchmark.ids)
        return
    ways = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in ways else "spawn")
    if "forkserver" in ways:
        context.set_forkserver_preload(["torch", "torchmetrics"])  # imported once, not by every process
    with ProcessPoolExecutor(jobs, context, _start, (work,)) as pool:
        for scores in pool.map(_one, benchmark.ids):
            scores.measured = {key: torch.from_numpy(value) for key, value in scores.measured.items()}
            yield scores


WORK: list[
    Callable[[str], VideoScores]
] = []  # of a worker process; the benchmark may be too large to send with every video


def _start(work: Callable[[str], VideoScores]) -> None:
    torch.set_num_threads(1)
    WORK[:] = [work]


def _one(id: str) -> VideoScores:
    """Score a video in a worker process. Arrays are returned, since every tensor would need a file handle."""
    scores = WORK[0](id)
    scores.measured = {key: value.numpy() for key, value in scores.measured.items()}  # type: ignore[misc]
    return scores


def score_video(benchmark: Benchmark, submission: Submission, empty: bool, id: str) -> VideoScores:
    """Score one video of a submission.

    Args:
        benchmark: with annotations.
        submission: opened.
        empty: see ``evaluate``.
        id: of the video.

    Raises:
        InputError: see ``evaluate``.
    """
    video, errors = benchmark.open(id), SubmissionErrors(strict=not empty)
    if video.truth is None:
        raise InputError(
            f"{benchmark.name} {benchmark.split}: video {id} has no public annotations to score against; "
            f"choose an annotated --split, or send the submission to the server ({benchmark.source})"
        )
    try:
        measured = benchmark.measure(video, benchmark.read(video, submission.folder, errors))
    except InputError as error:
        raise InputError(submission.with_user_path(str(error))) from None
    columns = benchmark.column_names(video, measured)
    return VideoScores(
        video=id,
        frames=[video.name(frame) for frame in benchmark.scored_frames(video)],
        objects=columns,
        measured=measured,
        numbers=benchmark.item_scores(measured),
        per_object=[
            benchmark.item_scores({key: value[..., [n]] for key, value in measured.items()})
            for n in range(len(columns))
        ],
        notes=[submission.with_user_path(note) for note in errors.messages],
    )


def _csv(head: Iterable[str], lines: Iterable[tuple[tuple[str, ...], dict[str, float]]]) -> str:
    """Return the text of a CSV file; undefined numbers are empty cells."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(head)
    for names, numbers in lines:
        writer.writerow([*names, *("" if math.isnan(value) else value for value in numbers.values())])
    return file.getvalue()
