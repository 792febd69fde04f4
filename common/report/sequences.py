"""Frames of one sequence as all methods answered it, with numbers over time."""

from __future__ import annotations

import base64
import io
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

WIDTH = 320  # pixels of a shown frame at most
TRUTH = "annotation"


@dataclass
class Figure:
    """One sequence.

    Attributes:
        benchmark, video: which.
        frames: indices of the frames shown.
        images: for the annotation and each method, one data URI a frame.
        curves: for each method, (frame, percent) of every scored frame, the mean over targets (of J and F for VOS).
        scores: main number of each method in percent.
    """

    benchmark: str
    video: str
    frames: list[int]
    images: dict[str, list[str]] = field(default_factory=dict)
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)


def row_name(record: ResultRecord) -> str:
    """Method, variant and seed: what a line of the page is called."""
    seed = "" if record.seed is None else f"(seed {record.seed})"
    return " ".join(part for part in (record.method, record.variant, seed) if part)


def main_number(records: Sequence[ResultRecord]) -> str:
    """The first number that all records of a benchmark have."""
    return next(name for name in records[0].metrics if all(name in record.metrics for record in records))


def by_benchmark(records: Iterable[ResultRecord]) -> dict[tuple[str, str, str], list[ResultRecord]]:
    """Records of each benchmark, split and protocol; of two with one name the later."""
    places: dict[tuple[str, str, str], dict[str, ResultRecord]] = defaultdict(dict)
    for record in sorted(records, key=lambda record: record.date):
        places[record.benchmark, record.split, record.protocol_id][row_name(record)] = record
    return {place: list(rows.values()) for place, rows in sorted(places.items())}


def worst_first(records: Sequence[ResultRecord]) -> list[str]:
    """Sequences of a benchmark by the mean of the main number over methods, the lowest first; undefined ones last."""
    number = main_number(records)

    def mean(video: str) -> float:
        values = [r.videos[video][number] for r in records if number in r.videos.get(video, {})]
        known = [value for value in values if value == value]
        return sum(known) / len(known) if known else float("inf")

    return sorted(dict.fromkeys(video for record in records for video in record.videos), key=mean)


def figures(records: Sequence[ResultRecord], sequences: int, frames: int) -> tuple[list[Figure], list[str]]:
    """The worst sequences of every benchmark whose data and predictions are here.

    Returns:
        Figures, and a line for each benchmark that cannot be shown.
    """
    made, notes = [], []
    for (name, split, _), rows in by_benchmark(records).items():
        shown = [record for record in rows if predictions(record).is_dir()]
        try:
            if not shown:
                raise InputError("no run kept its predictions (--model.save_predictions true)")
            benchmark = _benchmark(name, split, rows[0].protocol)
            made += [_figure(benchmark, video, shown, frames) for video in worst_first(rows)[:sequences]]
        except InputError as error:
            notes.append(f"{name} {split}: no frames are shown: {error}")
    return made, notes


def predictions(record: ResultRecord) -> Path:
    """Where the run kept its submission."""
    return Path(record.path).parent / "predictions"


def _benchmark(name: str, split: str, protocol: str) -> Benchmark:
    if name not in BENCHMARKS:
        raise InputError("it is not known by name")
    generated = name.startswith("tiny-")
    benchmark = make_benchmark(name) if generated else make_benchmark(name, split=split)
    if benchmark.protocol != protocol:
        raise InputError("it was measured with other settings than its name stands for")
    return benchmark


def _figure(benchmark: Benchmark, id: str, records: Sequence[ResultRecord], count: int) -> Figure:
    video = benchmark.open(id)
    scored = list(benchmark.scored_frames(video))
    picked = [scored[round(step * (len(scored) - 1) / max(1, count - 1))] for step in range(min(count, len(scored)))]
    figure = Figure(f"{benchmark.name} {benchmark.split}", id, sorted(set(picked)))
    assert video.truth is not None
    figure.images[TRUTH] = [_drawn(video, index, video.targets, video.truth[index]) for index in figure.frames]
    number = main_number(records)
    for record in records:
        answers = list(benchmark.read(video, predictions(record), SubmissionErrors(strict=False)))
        at = {answer.frame: answer for answer in answers}
        blank = torch.zeros(0, *video[0].shape[:2], dtype=torch.bool)
        shown = [at.get(index) or FrameMasks(index, (), blank, torch.zeros(0)) for index in figure.frames]
        who = row_name(record)
        figure.images[who] = [_drawn(video, answer.frame, answer.targets, answer.masks) for answer in shown]
        measured = benchmark.measure(video, answers)
        over_time = [values for values in measured.values() if values.ndim == 2 and len(values) == len(scored)]
        if over_time:
            curve = 100 * torch.stack([values.nanmean(1) for values in over_time]).mean(0)
            figure.curves[who] = [(t, float(v)) for t, v in zip(scored, curve, strict=True) if v == v]
        figure.scores[who] = 100 * record.videos.get(id, {}).get(number, float("nan"))
    return figure


def _drawn(video: Video, index: int, targets: Sequence[int], masks: Tensor | None) -> str:
    """A frame with masks over it, as a data URI."""
    frame = video[index]
    if masks is not None:
        frame = overlay(frame, FrameMasks(index, tuple(targets), masks.cpu(), torch.ones(len(targets))))
    image = Image.fromarray(frame.numpy())
    image.thumbnail((WIDTH, WIDTH))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
