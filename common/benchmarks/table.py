"""Table of all benchmarks; ``python -m common.benchmarks.table`` updates docs/benchmarks.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.benchmarks.base import Benchmark
from common.benchmarks.registry import BENCHMARKS, make_benchmark
from common.errors import InputError
from common.files import write_text

DOCS = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- table: python -m common.benchmarks.table -->", "<!-- end of the table -->"


@dataclass(frozen=True)
class Row:
    """A row of the table: a benchmark with its default arguments.

    Attributes:
        name: key of ``BENCHMARKS``.
        constructor: class below ``common.benchmarks`` and its arguments, as Python source.
        task: task of the benchmark, e.g. ``VOS``.
        splits: available splits, comma-separated.
        numbers: reported numbers, comma-separated.
        protocol: one-line protocol.
        source: where to obtain the data.
    """

    name: str
    constructor: str
    task: str
    splits: str
    numbers: str
    protocol: str
    source: str

    @classmethod
    def of(cls, name: str, benchmark: Benchmark) -> Row:
        """Create the row of a benchmark.

        Args:
            name: key of ``BENCHMARKS``.
            benchmark: the benchmark, with its default arguments.
        """
        arguments = ", ".join(
            f'{key}="{v}"' if isinstance(v, str) else f"{key}={v}" for key, v in BENCHMARKS[name][1].items()
        )
        splits, numbers = ", ".join(benchmark.splits), ", ".join(benchmark.numbers)
        constructor = f"{BENCHMARKS[name][0]}({arguments})"
        return cls(name, constructor, benchmark.task, splits, numbers, benchmark.protocol, benchmark.source)


def data_folder(benchmark: Benchmark) -> Path | None:
    """Return the folder of a benchmark's data; None if it is missing or the benchmark needs none.

    Args:
        benchmark: the benchmark.
    """
    try:
        return benchmark.root if benchmark.layout else None
    except InputError:
        return None


def markdown() -> str:
    """Return the table of all benchmarks in Markdown. It does not depend on which data is installed."""
    head = ("name", "class", "task", "splits", "numbers", "protocol", "source")
    lines = [head, tuple("---" for _ in head)]
    for name in BENCHMARKS:
        row = Row.of(name, make_benchmark(name))
        source = row.source.removeprefix("https://").removeprefix("www.") if "://" in row.source else ""
        link = f"[{source}]({row.source})" if source and " " not in row.source else row.source
        lines.append((f"`{name}`", f"`{row.constructor}`", row.task, row.splits, row.numbers, row.protocol, link))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def update_table(text: str) -> str:
    """Return a Markdown page with the current table between its two markers.

    Args:
        text: the page.
    """
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{markdown()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    write_text(DOCS, update_table(DOCS.read_text(encoding="utf-8")))
