"""The verb ``benchmarks``: which there are, and whether their data is on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from rich.console import Console
from rich.table import Column, Table

from common.benchmarks import Benchmark
from common.benchmarks.davis import Davis
from common.benchmarks.tiny import Tiny
from common.errors import InputError
from common.video.synthetic import PRESETS

KNOWN: dict[str, Callable[[], Benchmark]] = {
    **{f"tiny-{preset}": partial(Tiny, preset) for preset in PRESETS},
    "davis2016": partial(Davis, year=2016),
    "davis2017": partial(Davis, year=2017),
}


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
    for name, make in KNOWN.items():
        try:
            benchmark = make()
            yield name, benchmark.split, str(len(benchmark)), benchmark.protocol
        except InputError as error:
            yield name, "", "-", str(error)
