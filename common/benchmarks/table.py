"""What each benchmark is, in a row; ``python -m common.benchmarks.table`` brings docs/benchmarks.md up to date."""

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
    """One row of the table: a benchmark with its default settings.

    Attributes:
        name: a key of ``BENCHMARKS``.
        made: class below ``common.benchmarks``, with the arguments that make it this benchmark.
        task: task, e.g. ``VOS``.
        splits: names of the splits, separated by commas.
        numbers: names of the metrics, the main one first, separated by commas.
        protocol: the scored frames and the averaging in one sentence.
        source: where to get the data.
    """

    name: str
    made: str
    task: str
    splits: str
    numbers: str
    protocol: str
    source: str

    @classmethod
    def of(cls, name: str, benchmark: Benchmark) -> Row:
        """The row of a benchmark."""
        arguments = ", ".join(
            f'{key}="{v}"' if isinstance(v, str) else f"{key}={v}" for key, v in BENCHMARKS[name][1].items()
        )
        splits, numbers = ", ".join(benchmark.splits), ", ".join(benchmark.numbers)
        made = f"{BENCHMARKS[name][0]}({arguments})"
        return cls(name, made, benchmark.task, splits, numbers, benchmark.protocol, benchmark.source)


def found(benchmark: Benchmark) -> Path | None:
    """Where the data of a benchmark lies; None where it is not here or there is none to have."""
    try:
        return benchmark.root if benchmark.layout else None
    except InputError:
        return None


def markdown() -> str:
    """The table of all benchmarks, the same on every machine."""
    head = ("name", "class", "task", "splits", "numbers", "protocol", "source")
    lines = [head, tuple("---" for _ in head)]
    for name in BENCHMARKS:
        row = Row.of(name, make_benchmark(name))
        source = row.source.removeprefix("https://").removeprefix("www.") if "://" in row.source else ""
        link = f"[{source}]({row.source})" if source and " " not in row.source else row.source
        lines.append((f"`{name}`", f"`{row.made}`", row.task, row.splits, row.numbers, row.protocol, link))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def refreshed(text: str) -> str:
    """A page with the table of today between its two marks."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{markdown()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    write_text(DOCS, refreshed(DOCS.read_text(encoding="utf-8")))
