"""The verb ``leaderboard``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from common.errors import InputError
from common.files import write_text
from common.leaderboard.claims import claims, claims_grid
from common.leaderboard.collect import LINES, collect, published
from common.leaderboard.formats import csv_text, html, json_text, latex
from common.leaderboard.grid import Grid
from common.leaderboard.paper_tables import is_table_plan, run_table
from common.leaderboard.render import markdown, terminal
from common.leaderboard.runner import run_plan
from common.leaderboard.table import table

RUNS, RESULTS = Path("runs"), Path(__file__).resolve().parents[2] / "results"
FORMATS: dict[str, Callable[[Sequence[Grid]], str]] = {
    "terminal": terminal,
    "markdown": markdown,
    "html": html,
    "latex": latex,
    "csv": csv_text,
    "json": json_text,
}
SUFFIXES = {".md": "markdown", ".html": "html", ".tex": "latex", ".csv": "csv", ".json": "json"}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table of some runs, and write it to ``--output``.

    Args:
        argv: arguments after the verb; default: those of the process.

    Raises:
        InputError: nothing to show, a damaged record or plan, or a run that failed.
    """
    args = _parser().parse_args(argv)
    if args.run and is_table_plan(args.run):
        grids, fault = run_table(args.run, args.weights, args.jobs)
        _show(grids, args)
        if fault:
            raise fault
        return 0
    runs = [*args.runs, *([run_plan(args.run, args.jobs)] if args.run else [])]
    runs = runs or ([RESULTS] if args.claims else [path for path in (RUNS,) if path.is_dir()])
    records = collect(runs)
    _check_benchmarks(args.benchmark, {record.benchmark for record in records})
    if args.claims:
        selected = [claim for claim in claims() if not args.benchmark or claim.benchmark in args.benchmark]
        grids = [claims_grid([claim for claim in selected if _matches(claim.method, args.method)], records)]
    else:
        grids = table(records, published() if args.papers else (), args.benchmark, args.method)
    if not grids or not grids[0].rows:
        where = ", ".join(map(str, runs or [RUNS]))
        raise InputError(f"{where}: no results to show; run the verb test first, add --papers, or ask for less")
    if args.output and args.output.suffix == LINES:
        write_text(args.output, "".join(r.line() for r in records))
        args.output = None
    return _show(grids, args)


def _show(grids: Sequence[Grid], args: argparse.Namespace) -> int:
    print(FORMATS[args.format](grids), end="")
    if args.output:
        write_text(args.output, _for_file(grids, args.output))
    return 0


def _check_benchmarks(names: Sequence[str], measured: set[str]) -> None:
    """Refuse an id that neither the suite nor a record has.

    Raises:
        InputError: an id is unknown.
    """
    unknown = [name for name in names if name not in measured]
    if unknown:
        from common.benchmarks.registry import BENCHMARKS  # imports torch

        for name in unknown:
            if name not in BENCHMARKS:
                raise InputError(f"--benchmark {name}: unknown; known are {', '.join(BENCHMARKS)}")


def _matches(name: str, parts: Sequence[str]) -> bool:
    """Return whether a name contains one of the parts, in any case; true without parts."""
    return not parts or any(part.lower() in name.lower() for part in parts)


def _for_file(grids: Sequence[Grid], path: Path) -> str:
    """Return tables in the format that the name of a file stands for."""
    form = SUFFIXES.get(path.suffix)
    if form is None:
        return terminal(grids, plain=True)
    return html(grids, path.parent) if form == "html" else FORMATS[form](grids)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cli.py leaderboard", description="Tables of measured numbers and published ones."
    )
    add = parser.add_argument
    add(
        "runs",
        nargs="*",
        type=Path,
        metavar="RUNS",
        help=f"run folders, results.json or .jsonl files (default: {RUNS})",
    )
    add("--papers", action="store_true", help="add the numbers that the papers print")
    add("--claims", action="store_true", help="compare the papers' claims with records (default: results)")
    add(
        "--run",
        type=Path,
        metavar="PLAN",
        help="first run the missing runs of a plan, e.g. configs/leaderboards/tiny.yaml",
    )
    add(
        "--weights",
        type=Path,
        default=Path("checkpoints"),
        metavar="DIR",
        help="folder of the weights that a plan of a paper's table names (default: checkpoints)",
    )
    add("--jobs", type=int, default=1, metavar="N", help="number of runs of the plan at the same time")
    add("--format", choices=list(FORMATS), default="terminal", help="format of the printed tables")
    kinds = f"{', '.join(SUFFIXES)}; {LINES}: the records themselves, one a line"
    add("--output", type=Path, metavar="FILE", help=f"also write the tables, in the format of its name: {kinds}")
    add("--benchmark", action="append", default=[], metavar="ID", help="show only this benchmark; repeatable")
    add(
        "--method",
        action="append",
        default=[],
        metavar="NAME",
        help="show only methods whose name contains this; repeatable",
    )
    return parser
