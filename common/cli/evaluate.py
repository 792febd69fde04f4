"""The verb ``evaluate``: score a submission, and show in which videos the score is lost."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table
from rich.text import Text

from common.benchmarks.base import Benchmark
from common.benchmarks.registry import BENCHMARKS, make_benchmark
from common.cli.pick import add_benchmark, options, parsed, typed_name
from common.errors import InputError
from common.evaluation.submission import Evaluation, evaluate

OUTPUT = Path("runs/evaluate")
NOTES = 20  # most notes that are printed
VERB_OPTIONS = ("benchmark", "predictions", "against", "per_sequence", "missing", "jobs", "name", "output")


def main(argv: Sequence[str] | None = None) -> int:
    """Score a submission, print the numbers, and write the record.

    Args:
        argv: arguments after the verb; default ``sys.argv[1:]``.

    Raises:
        InputError: see ``common.evaluation.submission.evaluate``.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    settings = parsed(_parser(typed_name(argv)), argv)
    if settings.benchmark is None or settings.predictions is None:
        raise InputError(f"give --benchmark and --predictions; benchmarks are {', '.join(BENCHMARKS)}")
    benchmark_options, empty = options(settings, VERB_OPTIONS), settings.missing == "empty"
    benchmark = make_benchmark(settings.benchmark, **benchmark_options)
    console = Console(highlight=False, soft_wrap=True)
    scores = _evaluate(benchmark, settings.predictions, empty, settings.jobs)
    _print(console, scores, settings.per_sequence)
    if settings.against:
        _print_difference(console, scores, _evaluate(benchmark, settings.against, empty, settings.jobs))
    name = settings.name or method_name(settings.predictions)
    folder = settings.output or OUTPUT / name / f"{benchmark.name}-{benchmark.split}"
    config = {
        "benchmark": {"name": settings.benchmark, "init_args": benchmark_options},
        "predictions": str(settings.predictions),
        "missing": settings.missing,
    }
    console.print(str(scores.write(folder, name, config)), markup=False)
    return 0


def _parser(benchmark: str | None) -> ArgumentParser:
    parser = ArgumentParser(
        prog="cli.py evaluate",
        description="Score a submission: palette PNGs, trees of binary PNGs, VOTS results, RLE in JSON; a folder or a "
        "zip. With --benchmark NAME, --help lists the options of that benchmark too.",
        exit_on_error=False,
    )
    add = parser.add_argument
    add("--config", action="config", help="YAML file of these options; flags win")
    add("--benchmark", type=str | None, metavar="NAME", help="see the verb benchmarks")
    add("--predictions", type=Path | None, metavar="PATH", help="folder, .zip or .json of the submission")
    add("--against", type=Path | None, metavar="PATH", help="another submission: print the difference for each video")
    add("--per_sequence", "--per-sequence", action="store_true", help="print every video, lowest score first")
    add(
        "--missing",
        type=Literal["error", "empty"],
        default="error",
        help="treatment of missing or unreadable frames, frames of another size, and unknown ids",
    )
    add("--jobs", type=int, default=_cores(), metavar="N", help="processes")
    add("--name", type=str | None, help="name of the method in the record (default: name of the submission)")
    add(
        "--output",
        type=Path | None,
        metavar="DIR",
        help=f"folder of the record and the CSV files (default: below {OUTPUT})",
    )
    if benchmark is not None:
        add_benchmark(parser, benchmark)
    return parser


def method_name(path: Path) -> str:
    """Return the name of a submission's method: the name of the file or folder, or of the run where ``test`` wrote it.

    Args:
        path: of the submission.
    """
    path = path.resolve()
    name = path.stem if path.is_file() else path.name
    return path.parents[1].name if name == "predictions" and len(path.parents) > 2 else name


def _evaluate(benchmark: Benchmark, predictions: Path, empty: bool, jobs: int) -> Evaluation:
    """Score a submission, with a progress bar on a terminal."""
    bar = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    with bar:
        task = bar.add_task(predictions.name, total=len(benchmark))
        return evaluate(benchmark, predictions, empty, jobs, lambda scores: bar.advance(task))


def _print(console: Console, scores: Evaluation, per_sequence: bool) -> None:
    benchmark = scores.benchmark
    objects = sum(len(video.objects) for video in scores.videos)
    frames = sum(len(video.frames) for video in scores.videos)
    console.print(f"{benchmark.name} {benchmark.split}: {benchmark.protocol}", markup=False)
    console.print(f"protocol {scores.protocol_id}, {len(scores.videos)} videos, {objects} objects, {frames} frames")
    table = Table("video", *(Column(number, justify="right") for number in benchmark.numbers))
    if per_sequence:
        main = benchmark.numbers[0]
        for video in sorted(scores.videos, key=lambda video: _key(video.numbers[main])):
            table.add_row(Text(video.video), *(_percent(video.numbers[number]) for number in benchmark.numbers))
        table.add_section()
    table.add_row("all", *(_percent(scores.numbers[number]) for number in benchmark.numbers), style="bold")
    console.print(table)
    rest = [f"{key} {_percent(scores.numbers[key])}" for key in scores.numbers if key not in benchmark.numbers]
    if rest:
        console.print("  ".join(rest), markup=False)
    _print_notes(console, scores)


def _print_notes(console: Console, scores: Evaluation) -> None:
    if scores.surplus:
        names = ", ".join(scores.surplus[:3]) + ", ..." * (len(scores.surplus) > 3)
        console.print(f"not scored, no videos of this split: {len(scores.surplus)} ({names})", markup=False)
    notes = scores.notes
    for note in notes[:NOTES]:
        console.print(f"counted as empty: {note}", markup=False)
    if len(notes) > NOTES:
        console.print(f"... {len(notes)} faults in all")


def _print_difference(console: Console, scores: Evaluation, other: Evaluation) -> None:
    """Print the main number of every video for both submissions, largest loss first."""
    main = scores.benchmark.numbers[0]
    pairs = [(a.video, a.numbers[main], b.numbers[main]) for a, b in zip(scores.videos, other.videos, strict=True)]
    pairs.sort(key=lambda pair: _key(pair[1] - pair[2]))
    table = Table("video", *(Column(head, justify="right") for head in (main, "against", "difference")))
    for video, ours, theirs in pairs:
        table.add_row(Text(video), _percent(ours), _percent(theirs), _signed(ours - theirs))
    ours, theirs = scores.numbers[main], other.numbers[main]
    table.add_section()
    table.add_row("all", _percent(ours), _percent(theirs), _signed(ours - theirs), style="bold")
    console.print(table)
    _print_notes(console, other)


def _key(value: float) -> float:
    """Return a sort key that puts undefined numbers last."""
    return math.inf if math.isnan(value) else value


def _percent(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{100 * value:.1f}"


def _signed(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{100 * value:+.1f}"


def _cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
