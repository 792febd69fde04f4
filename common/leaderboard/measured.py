"""What was measured, as a grid."""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from common.leaderboard.collect import PublishedRow
from common.leaderboard.grid import LOWER, MARK_NOTE, Cell, Grid, Row, shown
from common.leaderboard.printed import printed_rows
from common.records.record import ResultRecord

AS_PRINTED = {"as listed", "default", ""}  # variants in print that say no more than the method's name
NANO = "nano: a few million parameters, trained here; it says little about the published network."


class Place(NamedTuple):
    """What numbers must share, but for the metric, to stand in one column."""

    benchmark: str
    split: str
    protocol_id: str


class Cost(NamedTuple):
    """A column that no video decides."""

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


def measured_grid(records: Sequence[ResultRecord], beside: Sequence[PublishedRow]) -> Grid:
    """Measured rows, best first, and under them the published numbers of the same benchmarks.

    Where a measured row is also in print, a column of its own says how far the number is from the printed one.
    """
    places = sorted({_place(record) for record in records})
    marks = _protocol_marks(places)
    columns = [(p, m) for p in places for m in shown({m for r in records if _place(r) == p for m in r.metrics})]
    rows = _by_row(records)
    lines = []
    for (name, _), runs in rows.items():
        found = [[r for r in runs if _place(r) == p and m in r.metrics] for p, m in columns]
        values = [[100 * r.metrics[m] for r in some] for some, (_, m) in zip(found, columns, strict=True)]
        means = [statistics.fmean(some) if some else math.nan for some in values]
        paths = [tuple(r.path for r in some if r.path) for some in found]
        cells = [Cell(_text(some), records=path) for some, path in zip(values, paths, strict=True)]
        lines.append((means, Row(name, runs[0].weights_note, cells), runs))
    for number, (_, metric) in enumerate(columns):
        _mark_best(number, metric, lines)
    lines.sort(key=lambda line: -math.inf if math.isnan(line[0][0]) else line[0][0], reverse=True)
    heads = [(f"{p.benchmark} {p.split}{marks[p]}", m) for p, m in columns]
    # What papers print stands under the first protocol of its benchmark, once.
    first = {(p.benchmark, p.split): p for p in reversed(places)}
    at = [(p.benchmark, p.split, m) if first[p.benchmark, p.split] == p else None for p, m in columns]
    for number in reversed(range(len(columns))):
        _add_difference(number, at, heads, lines, beside)
    costs = [cost for cost in COSTS if any(cost.of(record) is not None for record in records)]
    for _, row, runs in lines:
        row.cells += [_cost(cost, runs) for cost in costs]
    printed = printed_rows(beside, [*at, *[None] * len(costs)])
    notes = _notes(records, marks) + [NANO] * any("nano" in record.variant for record in records)
    return Grid(
        "Measured",
        heads + [("", cost.head) for cost in costs],
        [row for _, row, _ in lines] + printed,
        notes + [MARK_NOTE] * bool(beside),
    )


Line = tuple[list[float], Row, list[ResultRecord]]
Column = tuple[str, str, str]


def _add_difference(
    number: int,
    at: list[Column | None],
    heads: list[tuple[str, str]],
    lines: Sequence[Line],
    beside: Sequence[PublishedRow],
) -> None:
    """Put a column after this one that says how far measured numbers are from the same row in print, if any is."""
    printed = {
        _name(row.method, "" if row.variant in AS_PRINTED else row.variant): row.value
        for row in beside
        if (row.benchmark, row.split, row.metric) == at[number]
    }
    differences = [
        means[number] - printed[_name(row.method)]
        if _name(row.method) in printed and not math.isnan(means[number])
        else None
        for means, row, _ in lines
    ]
    if all(difference is None for difference in differences):
        return
    heads.insert(number + 1, (heads[number][0], f"{heads[number][1]} − paper"))
    at.insert(number + 1, None)
    for (_, row, _), difference in zip(lines, differences, strict=True):
        row.cells.insert(number + 1, Cell("" if difference is None else f"{difference:+.1f}"))


def _name(*parts: str) -> str:
    return re.sub(r"\W", "", " ".join(parts)).lower()


def _place(record: ResultRecord) -> Place:
    return Place(record.benchmark, record.split, record.protocol_id)


def _by_row(records: Sequence[ResultRecord]) -> dict[tuple[str, str], list[ResultRecord]]:
    """Records by method and weights; of runs that differ in nothing but their date, the last one."""
    last = {}
    for record in sorted(records, key=lambda record: record.date):
        last[record.method, record.variant, record.standard_note, _place(record), record.seed] = record
    rows = defaultdict(list)
    for record in last.values():
        rows[f"{record.method} {record.variant}".strip(), record.standard_note].append(record)
    return rows


def _text(values: Sequence[float]) -> str:
    """Mean, and the standard deviation where there is more than one seed."""
    if not values or any(map(math.isnan, values)):
        return "undefined" if values else ""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread}"


def _cost(cost: Cost, runs: Sequence[ResultRecord]) -> Cell:
    """One number for all runs of a row."""
    values = [value for run in runs if (value := cost.of(run)) is not None]
    return Cell(cost.form.format(cost.join(values)) if values else "")


def _mark_best(column: int, metric: str, lines: Sequence[Line]) -> None:
    """Mark the best and the second best of a column as printed, if there is anything to compare them with."""
    present = {round(means[column], 1) for means, _, _ in lines if not math.isnan(means[column])}
    ranked = sorted(present, reverse=metric not in LOWER)
    alone = sum(not math.isnan(means[column]) for means, _, _ in lines) < 2
    for means, row, _ in lines:
        if not alone and not math.isnan(means[column]):
            rank = ranked.index(round(means[column], 1))
            row.cells[column].best, row.cells[column].second = rank == 0, rank == 1


def _protocol_marks(places: Sequence[Place]) -> dict[Place, str]:
    """A number for each protocol of a benchmark that was measured by several."""
    marks = {}
    for place in places:
        alike = [other for other in places if other[:2] == place[:2]]
        marks[place] = f" [{alike.index(place) + 1}]" if len(alike) > 1 else ""
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
