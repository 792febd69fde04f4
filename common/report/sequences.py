"""Frames of single sequences with the masks of all methods, and their scores over time."""

from __future__ import annotations

import base64
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from common.benchmarks.base import Benchmark
from common.benchmarks.registry import BENCHMARKS, make_benchmark
from common.benchmarks.submissions.errors import SubmissionErrors
from common.errors import InputError
from common.records.record import ResultRecord
from common.video import FrameMasks, Video, overlay

WIDTH = 320  # largest side of a frame on the page, in pixels
TRUTH = "annotation"


@dataclass
class Figure:
    """One sequence.

    Attributes:
        benchmark: benchmark and split.
        video: id of the sequence.
        frames: indices of the frames on the page.
        images: one data URI a frame, by name of the method; the annotation is one of them.
        curves: (frame, percent) of every scored frame by name of the method; mean over targets, and of J and F for VOS.
        scores: main metric in percent by name of the method.
    """

    benchmark: str
    video: str
    frames: list[int]
    images: dict[str, list[str]] = field(default_factory=dict)
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)


def row_name(record: ResultRecord) -> str:
    """Return the name of a run on the page: method, variant and seed.

    Args:
        record: record of the run.
    """
    seed = "" if record.seed is None else f"(seed {record.seed})"
    return " ".join(part for part in (record.method, record.variant, seed) if part)


def main_number(records: Sequence[ResultRecord]) -> str:
    """Return the first metric that all records have.

    Args:
        records: records of one benchmark.
    """
    return next(name for name in records[0].metrics if all(name in record.metrics for record in records))


def by_benchmark(records: Iterable[ResultRecord]) -> dict[tuple[str, str, str], list[ResultRecord]]:
    """Group records by benchmark, split and protocol id; of two with the same name the later is taken.

    Args:
        records: records of runs.
    """
    places: dict[tuple[str, str, str], dict[str, ResultRecord]] = defaultdict(dict)
    for record in sorted(records, key=lambda record: record.date):
        places[record.benchmark, record.split, record.protocol_id][row_name(record)] = record
    return {place: list(rows.values()) for place, rows in sorted(places.items())}


def worst_first(records: Sequence[ResultRecord]) -> list[str]:
    """Return the sequences of a benchmark, sorted by the mean of the main metric over methods, undefined ones last.

    Args:
        records: records of one benchmark.
    """
    number = main_number(records)

    def mean(video: str) -> float:
        values = [r.videos[video][number] for r in records if number in r.videos.get(video, {})]
        defined = [value for value in values if not math.isnan(value)]
        return sum(defined) / len(defined) if defined else math.inf

    return sorted(dict.fromkeys(video for record in records for video in record.videos), key=mean)


def figures(records: Sequence[ResultRecord], sequences: int, frames: int) -> tuple[list[Figure], list[str]]:
    """Draw the worst sequences of every benchmark whose data and predictions are on this machine.

    Args:
        records: records of runs.
        sequences: number of sequences of a benchmark.
        frames: number of frames of a sequence.

    Returns:
        The figures, and a line for each benchmark that cannot be shown.
    """
    drawn, notes = [], []
    for (name, split, _), rows in by_benchmark(records).items():
        visible = [record for record in rows if predictions(record).is_dir()]
        try:
            if not visible:
                raise InputError("no run saved its predictions (--model.save_predictions true)")
            benchmark = _benchmark(name, split, rows[0].protocol)
            drawn += [_figure(benchmark, video, visible, frames) for video in worst_first(rows)[:sequences]]
        except InputError as error:
            notes.append(f"{name} {split}: no frames are shown: {error}")
    return drawn, notes


def predictions(record: ResultRecord) -> Path:
    """Return the folder of a run's predictions, whether it exists or not.

    Args:
        record: record of the run.
    """
    return Path(record.path).parent / "predictions"


def _benchmark(name: str, split: str, protocol: str) -> Benchmark:
    if name not in BENCHMARKS:
        raise InputError("the suite has no benchmark of this name")
    generated = name.startswith("tiny-")
    benchmark = make_benchmark(name) if generated else make_benchmark(name, split=split)
    if benchmark.protocol != protocol:
        raise InputError("it was measured with other settings than the defaults of its name")
    return benchmark


def _figure(benchmark: Benchmark, id: str, records: Sequence[ResultRecord], count: int) -> Figure:
    video = benchmark.open(id)
    scored = list(benchmark.scored_frames(video))
    steps = range(min(count, len(scored)))
    sampled = {scored[round(step * (len(scored) - 1) / max(1, count - 1))] for step in steps}
    figure = Figure(f"{benchmark.name} {benchmark.split}", id, sorted(sampled))
    assert video.truth is not None
    figure.images[TRUTH] = [_image(video, index, video.targets, video.truth[index]) for index in figure.frames]
    number = main_number(records)
    for record in records:
        answers = list(benchmark.read(video, predictions(record), SubmissionErrors(strict=False)))
        at = {answer.frame: answer for answer in answers}
        blank = torch.zeros(0, *video[0].shape[:2], dtype=torch.bool)
        sampled_answers = [at.get(index) or FrameMasks(index, (), blank, torch.zeros(0)) for index in figure.frames]
        name = row_name(record)
        figure.images[name] = [_image(video, answer.frame, answer.targets, answer.masks) for answer in sampled_answers]
        measured = benchmark.measure(video, answers)
        over_time = [values for values in measured.values() if values.ndim == 2 and len(values) == len(scored)]
        if over_time:
            curve = 100 * torch.stack([values.nanmean(1) for values in over_time]).mean(0)
            figure.curves[name] = [(t, float(v)) for t, v in zip(scored, curve, strict=True) if not math.isnan(v)]
        figure.scores[name] = 100 * record.videos.get(id, {}).get(number, math.nan)
    return figure


def _image(video: Video, index: int, targets: Sequence[int], masks: Tensor | None) -> str:
    """Return a frame with masks drawn over it as a data URI."""
    frame = video[index]
    if masks is not None:
        frame = overlay(frame, FrameMasks(index, tuple(targets), masks.cpu(), torch.ones(len(targets))))
    image = Image.fromarray(frame.numpy())
    image.thumbnail((WIDTH, WIDTH))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
