"""Records and published numbers as grids."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from common.leaderboard.collect import PublishedRow
from common.leaderboard.grid import Grid
from common.leaderboard.measured import measured_grid
from common.leaderboard.printed import printed_grid
from common.records.record import ResultRecord


def table(
    records: Sequence[ResultRecord],
    published: Sequence[PublishedRow] = (),
    benchmark: Collection[str] = (),
    method: Collection[str] = (),
) -> list[Grid]:
    """One grid of what was measured, beside the published numbers of the same benchmarks; one more for each other.

    Runs that differ only in their seed are one row, mean ± standard deviation; a run made again counts once. Numbers of
    different protocols never share a column, and published ones never a row with measured ones. Fractions become
    percent with one decimal.

    Args:
        records: what was measured.
        published: what papers print.
        benchmark: only these benchmark ids; none = all.
        method: only methods whose name contains one of these, in any case; none = all.
    """

    def asked(row: ResultRecord | PublishedRow) -> bool:
        named = not method or any(name.lower() in row.method.lower() for name in method)
        return named and (not benchmark or row.benchmark in benchmark)

    records, published = [r for r in records if asked(r)], [p for p in published if asked(p)]
    measured_at = {(r.benchmark, r.split) for r in records}
    printed_at = dict.fromkeys((p.benchmark, p.split) for p in published)
    beside = [p for p in published if (p.benchmark, p.split) in measured_at]
    grids = [measured_grid(records, beside)] if records else []
    return grids + [
        printed_grid(*at, [p for p in published if (p.benchmark, p.split) == at])
        for at in printed_at
        if at not in measured_at
    ]
