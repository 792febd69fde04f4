"""Numbers of papers as rows of a table."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from common.leaderboard.collect import PublishedRow
from common.leaderboard.grid import MARK, MARK_NOTE, Cell, Grid, Row, headline

Column = tuple[str, str, str, str]  # benchmark, split, metric, protocol

SUBSET = re.compile(r"_(small|medium|large)$")  # a metric over the videos whose objects have this size


def printed_grids(rows: Sequence[PublishedRow]) -> list[Grid]:
    """Return one table for each benchmark, split, protocol and subset of the videos.

    Args:
        rows: published numbers without a record.
    """
    grouped: dict[tuple[str, str, str], list[PublishedRow]] = defaultdict(list)
    for row in rows:
        subset = SUBSET.search(row.metric)
        note = ", ".join(filter(None, [row.protocol, subset[1] if subset else ""]))
        grouped[row.benchmark, row.split, note].append(replace(row, metric=SUBSET.sub("", row.metric), protocol=note))
    return [_printed_grid(*place, group) for place, group in grouped.items()]


def _printed_grid(benchmark: str, split: str, protocol: str, rows: Sequence[PublishedRow]) -> Grid:
    metrics = headline({row.metric for row in rows})
    lines = printed_rows(rows, [(benchmark, split, metric, protocol) for metric in metrics])
    title = f"Published: {benchmark} {split}" + (f", {protocol}" if protocol else "")
    return Grid(title, [("", metric) for metric in metrics], lines, [MARK_NOTE])


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
        grouped[label][row.benchmark, row.split, row.metric, row.protocol] = digits + "?" * row.doubtful
    lines = []
    for (name, source), values in grouped.items():
        cells = [Cell(values.get(column, "") if column else "") for column in columns]
        if any(cell.text for cell in cells):
            lines.append(Row(name, source, cells, published=True))
    return lines
