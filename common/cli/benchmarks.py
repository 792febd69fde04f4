"""The verb ``benchmarks``: which there are, and whether their data is on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Column, Table

from common.benchmarks.known import KNOWN, known_benchmark
from common.errors import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Print one row a benchmark."""
    argparse.ArgumentParser(prog="cli.py benchmarks", description="The benchmarks of the suite.").parse_args(argv)
    table = Table(
        *(Column(name, no_wrap=True) for name in ("benchmark", "split", "videos")), "protocol, or what is missing"
    )
    for row in rows():
        table.add_row(*row)
    Console().print(table)
    return 0


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Name, default split, number of videos and protocol; without data what to do instead."""
    for name in KNOWN:
        try:
            benchmark = known_benchmark(name)
            yield name, benchmark.split, str(len(benchmark)), benchmark.protocol
        except InputError as error:
            yield name, "", "-", str(error)
