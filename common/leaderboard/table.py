"""Tables of records and published numbers."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from common.leaderboard.collect import PublishedRow
from common.leaderboard.grid import Grid
from common.leaderboard.measured import measured_grid, place_published
from common.leaderboard.printed import printed_grids
from common.records.record import ResultRecord


def table(
    records: Sequence[ResultRecord],
    published: Sequence[PublishedRow] = (),
    benchmark: Collection[str] = (),
    method: Collection[str] = (),
) -> list[Grid]:
    """Return one table of all records and the published numbers of their benchmarks, and one for each other benchmark.

    Runs that differ only in their seed are one row, mean ± standard deviation; of repeated runs the last counts. Runs
    with different settings are different rows. Numbers of different protocols never share a column, measured and
    published numbers never a row. Fractions become percent with one decimal.

    Args:
        records: records of runs.
        published: numbers of papers.
        benchmark: ids of the benchmarks to show; empty = all.
        method: parts of the names of the methods to show, in any case; empty = all.
    """

    def selected(row: ResultRecord | PublishedRow) -> bool:
        of_method = not method or any(name.lower() in row.method.lower() for name in method)
        return of_method and (not benchmark or row.benchmark in benchmark)

    records, published = [r for r in records if selected(r)], [p for p in published if selected(p)]
    beside, others = place_published(published, records)
    return ([measured_grid(records, beside)] if records else []) + printed_grids(others)
