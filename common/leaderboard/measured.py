"""What was measured, as a grid."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from common.leaderboard.collect import PublishedRow
from common.leaderboard.grid import MARK_NOTE, Cell, Grid, Row, shown
from common.leaderboard.printed import printed_rows
from common.results import ResultRecord


class Place(NamedTuple):
    """What numbers must share, but for the metric, to stand in one column."""

    benchmark: str
    split: str
    protocol_id: str


def measured_grid(records: Sequence[ResultRecord], beside: Sequence[PublishedRow]) -> Grid:
    """Measured rows, best first, and under them the published numbers of the same benchmarks."""
    places = sorted({_place(record) for record in records})
    marks = _protocol_marks(places)
    columns = [(p, m) for p in places for m in shown({m for r in records if _place(r) == p for m in r.metrics})]
    lines = []
    for (name, weights), runs in _by_row(records).items():
        values = [[100 * r.metrics[m] for r in runs if _place(r) == p and m in r.metrics] for p, m in columns]
        means = [statistics.fmean(some) if some else math.nan for some in values]
        lines.append((means, Row(name, weights, [Cell(_text(some)) for some in values] + _cost(runs))))
    for column in range(len(columns)):
        _mark_best(column, lines)
    lines.sort(key=lambda line: -math.inf if math.isnan(line[0][0]) else line[0][0], reverse=True)
    # What papers print stands under the first protocol of its benchmark, once.
    first = {(p.benchmark, p.split): p for p in reversed(places)}
    at = [(p.benchmark, p.split, m) if first[p.benchmark, p.split] == p else None for p, m in columns]
    return Grid(
        "Measured",
        [(f"{p.benchmark} {p.split}{marks[p]}", m) for p, m in columns] + [("", "frames/s"), ("", "peak MB")],
        [row for _, row in lines] + printed_rows(beside, [*at, None, None]),
        _notes(records, marks) + [MARK_NOTE] * bool(beside),
    )


def _place(record: ResultRecord) -> Place:
    return Place(record.benchmark, record.split, record.protocol_id)


def _by_row(records: Sequence[ResultRecord]) -> dict[tuple[str, str], list[ResultRecord]]:
    """Records by method and weights; of runs that differ in nothing but their date, the last one."""
    last = {}
    for record in sorted(records, key=lambda record: record.date):
        last[record.method, record.variant, record.weights_note, _place(record), record.seed] = record
    rows = defaultdict(list)
    for record in last.values():
        rows[f"{record.method} {record.variant}".strip(), record.weights_note].append(record)
    return rows


def _text(values: Sequence[float]) -> str:
    """Mean, and the standard deviation where there is more than one seed."""
    if not values or any(map(math.isnan, values)):
        return "undefined" if values else ""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread}"


def _cost(runs: Sequence[ResultRecord]) -> list[Cell]:
    """Mean speed and highest memory of a row's runs."""
    speeds = [run.frames_per_second for run in runs if run.frames_per_second is not None]
    memory = [run.peak_memory_mb for run in runs if run.peak_memory_mb is not None]
    return [
        Cell(f"{statistics.fmean(speeds):.1f}" if speeds else ""),
        Cell(f"{max(memory):.0f}" if memory else ""),
    ]


def _mark_best(column: int, lines: Sequence[tuple[list[float], Row]]) -> None:
    """Mark the highest of a column as printed, if there is anything to compare it with."""
    present = [round(means[column], 1) for means, _ in lines if not math.isnan(means[column])]
    for means, row in lines:
        row.cells[column].best = len(present) > 1 and round(means[column], 1) == max(present)


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
