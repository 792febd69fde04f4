"""Numbers of papers as rows of a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from common.leaderboard.collect import PublishedRow
from common.leaderboard.grid import MARK, MARK_NOTE, Cell, Grid, Row, headline

Column = tuple[str, str, str]  # benchmark, split, metric


def printed_grid(benchmark: str, split: str, rows: Sequence[PublishedRow]) -> Grid:
    """Return a table of published numbers, for a benchmark without a record.

    Args:
        benchmark: id of the benchmark.
        split: split of the benchmark.
        rows: published numbers of it.
    """
    metrics = headline({row.metric for row in rows})
    lines = printed_rows(rows, [(benchmark, split, metric) for metric in metrics])
    return Grid(f"Published: {benchmark} {split}", [("", metric) for metric in metrics], lines, [MARK_NOTE])


def printed_rows(rows: Sequence[PublishedRow], columns: Sequence[Column | None]) -> list[Row]:
    """Return one row for each method and variant of each table of a paper.

    Args:
        rows: published numbers.
        columns: columns of the table; a column that is None stays empty.
    """
    grouped: dict[tuple[str, str], dict[Column, str]] = defaultdict(dict)
    for row in rows:
        label = f"{row.method} {row.variant} {MARK}", f"{row.paper}, table {row.table}"
        digits = f"{row.value:.1f}" if round(row.value, 1) == row.value else f"{row.value:g}"
        grouped[label][row.benchmark, row.split, row.metric] = digits + "?" * row.doubtful
    lines = []
    for (name, source), values in grouped.items():
        cells = [Cell(values.get(column, "") if column else "") for column in columns]
        if any(cell.text for cell in cells):
            lines.append(Row(name, source, cells, published=True))
    return lines
