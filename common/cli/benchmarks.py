"""The verb ``benchmarks``: list benchmarks, describe the layout of their data, and check it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from inspect import cleandoc
from itertools import groupby

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table
from rich.text import Text

from common.benchmarks.base import Benchmark
from common.benchmarks.checks.dataset import check_benchmark, summary
from common.benchmarks.registry import BENCHMARKS, make_benchmark
from common.benchmarks.roots import VARIABLE
from common.benchmarks.table import Row, data_folder
from common.cli.pick import add_benchmark, options, parsed
from common.errors import InputError

USAGE = """
usage: python cli.py benchmarks                          list all, and where their data is
       python cli.py benchmarks NAME                     where to get the data of one, and its layout
       python cli.py benchmarks check NAME [options]     check the data; exit status 1 if there are problems
       python cli.py benchmarks check NAME --help        root, split and the benchmark's own options"""


def main(argv: Sequence[str] | None = None) -> int:
    """List all benchmarks, show one, or check the data of one.

    Args:
        argv: arguments after the verb; default ``sys.argv[1:]``.

    Returns:
        1 if a check found something, else 0.

    Raises:
        InputError: no such benchmark or option, or there is no data to check.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    console = Console(highlight=False)
    if not argv:
        list_all(console)
    elif argv[0] in ("-h", "--help"):
        console.print(cleandoc(USAGE), markup=False, soft_wrap=True)
    elif argv[0] == "check":
        return check_one(console, argv[1:])
    elif argv[0].startswith("-") or len(argv) > 1:
        raise InputError(f"benchmarks {' '.join(argv)}: it takes a NAME or 'check NAME'; see --help")
    else:
        show(console, argv[0])
    return 0


def list_all(console: Console) -> None:
    """Print a few lines for each benchmark; those that differ only in their name are grouped."""
    table = Table.grid(Column(no_wrap=True, style="bold"), Column(overflow="fold"), padding=(0, 3, 0, 0))
    for lines, names in groupby(BENCHMARKS, key=_lines):
        table.add_row("\n".join(names), Text("\n".join(lines)))
    console.print(table)
    place = os.environ.get(VARIABLE)
    console.print(
        f"Data is looked for below ${VARIABLE} ({place or 'which is not set'}). "
        "python cli.py benchmarks NAME tells where to get it and where to put it.",
        markup=False,
    )


def _lines(name: str) -> tuple[str, ...]:
    benchmark = make_benchmark(name)
    row = Row.of(name, benchmark)
    absent = "not found" if benchmark.folders else "your own, give root"
    data = data_folder(benchmark) or absent if benchmark.layout else row.source
    return f"{row.task}   splits: {row.splits}   numbers: {row.numbers}", row.protocol, f"data: {data}", ""


def show(console: Console, name: str) -> None:
    """Print the task, splits, protocol, layout and source of one benchmark."""
    benchmark = make_benchmark(name)
    row = Row.of(name, benchmark)
    lines = [
        f"{name}: {row.task}, common.benchmarks.{row.constructor}",
        f"splits: {row.splits}",
        f"numbers: {row.numbers}",
        f"protocol: {row.protocol}",
    ]
    if benchmark.layout:
        lines += ["", "layout:", "", *(f"    {line}" for line in cleandoc(benchmark.layout).splitlines()), ""]
    lines.append(f"from: {row.source}")
    if benchmark.folders:
        names = " or ".join(benchmark.folders)
        lines.append(
            f"put it in: a folder {names} below ${VARIABLE} (case and punctuation do not matter), or give root"
        )
    try:
        lines.append(f"found in: {benchmark.root}" if benchmark.layout else "nothing to download")
    except InputError:
        lines.append("not found here")
    console.print("\n".join(lines), markup=False, soft_wrap=True)


def check_one(console: Console, argv: Sequence[str]) -> int:
    """Print every problem of a benchmark's data as it is found, then a summary; return 1 if there is any."""
    name = argv[0] if argv and not argv[0].startswith("-") else None
    if name is None and not {"-h", "--help"}.intersection(argv):
        raise InputError(f"benchmarks check: give the name of a benchmark; there are {', '.join(BENCHMARKS)}")
    settings = parsed(_parser(name), argv[1:] if name else argv)
    assert name is not None
    benchmark = make_benchmark(name, **options(settings, ("jobs",)))
    if settings.jobs < 1:
        raise InputError(f"jobs {settings.jobs}: give at least 1")
    return 1 if _report(console, benchmark, settings.jobs) else 0


def _parser(name: str | None) -> ArgumentParser:
    parser = ArgumentParser(
        prog=f"cli.py benchmarks check {name or 'NAME'}",
        description="Read every frame and annotation and report every problem.",
        exit_on_error=False,
    )
    parser.add_argument("--config", action="config", help="YAML file of these options; flags win")
    parser.add_argument("--jobs", type=int, default=min(8, os.cpu_count() or 1), help="videos checked in parallel")
    if name is not None:
        add_benchmark(parser, name)
    return parser


def _report(console: Console, benchmark: Benchmark, jobs: int) -> int:
    """Print the problems and return their number."""
    checks = []
    bar = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    with bar:
        task = bar.add_task(f"{benchmark.name} {benchmark.split}", total=None)
        for result in check_benchmark(benchmark, jobs):
            checks.append(result)
            for problem in result.problems:
                console.print(f"{problem.kind}: {problem.text}", markup=False, soft_wrap=True)
            bar.update(task, advance=1, total=len(benchmark) if result.video else 1)
    console.print(summary(checks), markup=False)
    return sum(len(result.problems) for result in checks)
