"""The table of measured numbers."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from common.leaderboard.collect import PublishedRow
from common.leaderboard.grid import LOWER, MARK_NOTE, Cell, Grid, Row, headline
from common.leaderboard.printed import SUBSET, Column, printed_rows
from common.leaderboard.settings import by_settings, differences, settings_id
from common.records.record import ResultRecord

AS_PRINTED = {"as listed", "default", ""}  # variants in print that add nothing to the method's name
NANO = "nano: a few million parameters, trained here; it says little about the published network."


class Place(NamedTuple):
    """What the numbers of one column have in common, apart from the metric."""

    benchmark: str
    split: str
    protocol_id: str


class Cost(NamedTuple):
    """A column of speed, memory or size, which does not depend on the benchmark."""

    head: str
    of: Callable[[ResultRecord], float | None]
    join: Callable[[Sequence[float]], float]
    form: str


COSTS = (
    Cost("frames/s", lambda record: record.frames_per_second, statistics.fmean, "{:.1f}"),
    Cost("peak MB", lambda record: record.peak_memory_mb, max, "{:.0f}"),
    Cost("params M", lambda record: record.parameters and record.parameters / 1e6, max, "{:.2f}"),
    Cost("GFLOP/frame", lambda record: record.gflops, statistics.fmean, "{:.3g}"),
)


@dataclass
class Line:
    """One measured row in the making.

    Attributes:
        means: mean of each column in percent; NaN where the row has no number.
        row: the row as it is shown.
        runs: records behind it.
    """

    means: list[float]
    row: Row
    runs: list[ResultRecord]


def measured_grid(records: Sequence[ResultRecord], published_rows: Sequence[PublishedRow]) -> Grid:
    """Return the table of measured numbers, best first, with published numbers of the same benchmarks below.

    Where a measured row is also in a paper, an additional column has the difference of the two numbers.

    Args:
        records: records of runs.
        published_rows: published numbers of the same places, from ``place_published``.
    """
    places = sorted({_place(record) for record in records})
    marks = _protocol_marks(places)
    columns = [(p, m) for p in places for m in headline({m for r in records if _place(r) == p for m in r.metrics})]
    rows, split_notes = _rows(records)
    lines = [_line(name, runs, columns) for name, runs in rows]
    for number, (_, metric) in enumerate(columns):
        _mark_best(number, metric, lines)
    lines.sort(key=lambda line: -math.inf if math.isnan(line.means[0]) else line.means[0], reverse=True)
    heads = [(f"{p.benchmark} {p.split}{marks[p]}", m) for p, m in columns]
    at: list[Column | None] = [(p.benchmark, p.split, m, p.protocol_id) for p, m in columns]
    for number in reversed(range(len(columns))):
        _add_difference(number, at, heads, lines, published_rows)
    costs = [cost for cost in COSTS if any(cost.of(record) is not None for record in records)]
    for line in lines:
        line.row.cells += [_cost(cost, line.runs) for cost in costs]
    published = printed_rows(published_rows, [*at, *[None] * len(costs)])
    notes = _notes(records, marks) + split_notes + [NANO] * any("nano" in record.variant for record in records)
    return Grid(
        "Measured",
        heads + [("", cost.head) for cost in costs],
        [line.row for line in lines] + published,
        notes + [MARK_NOTE] * bool(published_rows),
    )


def place_published(
    published: Sequence[PublishedRow], records: Sequence[ResultRecord]
) -> tuple[list[PublishedRow], list[PublishedRow]]:
    """Find the protocol of the records that each published number was scored by.

    A number with ``protocol`` belongs to the records whose protocol line has these words, any other to the first
    protocol of its benchmark.

    Args:
        published: numbers of papers.
        records: records of runs.

    Returns:
        The numbers that have records, with ``protocol`` set to the id of the protocol, and the other numbers.
    """
    lines = {_place(record): record.protocol for record in records}
    placed, others = [], []
    for row in published:
        places = [p for p in sorted(lines) if p[:2] == (row.benchmark, row.split) and row.protocol in lines[p]]
        if places and not SUBSET.search(row.metric):
            placed.append(replace(row, protocol=places[0].protocol_id))
        else:
            others.append(row)
    return placed, others


def _line(name: str, runs: list[ResultRecord], columns: Sequence[tuple[Place, str]]) -> Line:
    means, cells = [], []
    for place, metric in columns:
        counted = [run for run in runs if _place(run) == place and metric in run.metrics]
        values = [100 * run.metrics[metric] for run in counted]
        means.append(statistics.fmean(values) if values else math.nan)
        cells.append(Cell(_text(values), records=tuple(run.path for run in counted if run.path)))
    return Line(means, Row(name, runs[0].weights_note, cells), runs)


def _add_difference(
    number: int,
    at: list[Column | None],
    heads: list[tuple[str, str]],
    lines: Sequence[Line],
    published_rows: Sequence[PublishedRow],
) -> None:
    """Insert a column after column ``number`` with measured less published numbers, if any row is in a paper too."""
    published = {
        _name(row.method, "" if row.variant in AS_PRINTED else row.variant): row.value
        for row in published_rows
        if (row.benchmark, row.split, row.metric, row.protocol) == at[number]
    }
    values: list[float | None] = []
    for line in lines:
        name = _name(line.runs[0].method, line.runs[0].variant)
        mean = line.means[number]
        values.append(mean - published[name] if name in published and not math.isnan(mean) else None)
    if all(value is None for value in values):
        return
    heads.insert(number + 1, (heads[number][0], f"{heads[number][1]} − paper"))
    at.insert(number + 1, None)
    for line, value in zip(lines, values, strict=True):
        line.row.cells.insert(number + 1, Cell("" if value is None else f"{value:+.1f}"))


def _name(*parts: str) -> str:
    return re.sub(r"\W", "", " ".join(parts)).lower()


def _place(record: ResultRecord) -> Place:
    return Place(record.benchmark, record.split, record.protocol_id)


def _rows(records: Sequence[ResultRecord]) -> tuple[list[tuple[str, list[ResultRecord]]], list[str]]:
    """Return the name and the records of each row, and a note for each row that was split.

    A row has the records of one method, variant and kind of weights; of runs that differ only in their date, the last
    one counts. Where a benchmark was run with several settings, each of the settings is a row of its own.
    """
    last: dict[tuple[object, ...], ResultRecord] = {}
    for record in sorted(records, key=lambda record: record.date):
        key = (record.method, record.variant, record.standard_note, _place(record), record.seed, settings_id(record))
        last[key] = record
    grouped: dict[tuple[str, str], list[ResultRecord]] = {}
    for record in last.values():
        grouped.setdefault((f"{record.method} {record.variant}".strip(), record.standard_note), []).append(record)
    rows, notes = [], []
    for (name, _), runs in grouped.items():
        groups = list(by_settings(runs).values())
        if len({(_place(run), settings_id(run)) for run in runs}) == len({_place(run) for run in runs}):
            rows.append((name, runs))
            continue
        marks = [f"({chr(ord('a') + number)})" for number in range(len(groups))]
        rows += [(f"{name} {mark}", group) for mark, group in zip(marks, groups, strict=True)]
        described = "; ".join(map(" ".join, zip(marks, differences(groups), strict=True)))
        notes.append(f"{name}: runs whose settings differ are rows of their own: {described}.")
    return rows, notes


def _text(values: Sequence[float]) -> str:
    """Return the mean in percent, with the standard deviation where there are several seeds."""
    if not values or any(map(math.isnan, values)):
        return "undefined" if values else ""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread}"


def _cost(cost: Cost, runs: Sequence[ResultRecord]) -> Cell:
    """Return the cell of a cost over all runs of a row."""
    values = [value for run in runs if (value := cost.of(run)) is not None]
    return Cell(cost.form.format(cost.join(values)) if values else "")


def _mark_best(column: int, metric: str, lines: Sequence[Line]) -> None:
    """Mark the best and the second best number of a column, as rounded for print; a single number is not marked."""
    numbers = [round(line.means[column], 1) for line in lines if not math.isnan(line.means[column])]
    ranked = sorted(set(numbers), reverse=metric not in LOWER)
    for line in lines:
        if len(numbers) > 1 and not math.isnan(line.means[column]):
            rank = ranked.index(round(line.means[column], 1))
            line.row.cells[column].best, line.row.cells[column].second = rank == 0, rank == 1


def _protocol_marks(places: Sequence[Place]) -> dict[Place, str]:
    """Number the protocols of each benchmark that was measured by several."""
    marks = {}
    for place in places:
        siblings = [other for other in places if other[:2] == place[:2]]
        marks[place] = f" [{siblings.index(place) + 1}]" if len(siblings) > 1 else ""
    return marks


def _notes(records: Sequence[ResultRecord], marks: dict[Place, str]) -> list[str]:
    notes = []
    for place, mark in marks.items():
        record = next(record for record in records if _place(record) == place)
        videos = f" ({len(record.videos)} videos)" if record.videos else ""
        notes.append(f"{place.benchmark} {place.split}{mark}: {record.protocol or 'protocol not stated'}{videos}.")
    if any(marks.values()):
        notes.append("[1], [2]: the protocols or the videos differ, so these numbers must not be compared.")
    notes.append("Metrics in percent, ± over seeds; frames/s: mean, peak MB: highest over a row's runs.")
    return notes
