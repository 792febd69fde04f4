"""The verb ``leaderboard``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from common.errors import InputError
from common.files import write_text
from common.leaderboard.claims import claims, claims_grid
from common.leaderboard.collect import collect, published
from common.leaderboard.formats import csv_text, html, json_text, latex
from common.leaderboard.grid import Grid
from common.leaderboard.render import markdown, terminal
from common.leaderboard.runner import run_plan
from common.leaderboard.table import table

RUNS, RECORDS = Path("runs"), Path(__file__).resolve().parents[2] / "docs" / "records"
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
    """Print the table of some runs, and write it where ``--output`` says.

    Raises:
        InputError: nothing to show, a damaged record or plan, or a run that failed.
    """
    args = _parser().parse_args(argv)
    runs = [*args.runs, *([run_plan(args.run, args.jobs)] if args.run else [])]
    if args.claims:
        asked = [claim for claim in claims() if not args.benchmark or claim.benchmark in args.benchmark]
        found = [claim for claim in asked if not args.method or _named(claim.method, args.method)]
        grids = [claims_grid(found, collect(runs or [RECORDS]))]
    else:
        runs = runs or [path for path in (RUNS,) if path.is_dir()]
        grids = table(collect(runs), published() if args.papers else (), args.benchmark, args.method)
    if not grids or not grids[0].rows:
        where = ", ".join(map(str, runs or [RUNS]))
        raise InputError(f"{where}: no results to show; run the verb test first, add --papers, or ask for less")
    print(FORMATS[args.format](grids), end="")
    if args.output:
        write_text(args.output, _for_file(grids, args.output))
    return 0


def _named(name: str, wanted: Sequence[str]) -> bool:
    return any(part.lower() in name.lower() for part in wanted)


def _for_file(grids: Sequence[Grid], path: Path) -> str:
    form = SUFFIXES.get(path.suffix)
    if form is None:
        return terminal(grids, plain=True)
    return html(grids, path.parent) if form == "html" else FORMATS[form](grids)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cli.py leaderboard", description="Tables of measured results beside the published numbers."
    )
    add = parser.add_argument
    add("runs", nargs="*", type=Path, metavar="RUNS", help=f"folders or results.json files (default: {RUNS})")
    add("--papers", action="store_true", help="add the numbers that the papers print")
    add("--claims", action="store_true", help="the papers' claims, held against records (default: docs/records)")
    add(
        "--run",
        type=Path,
        metavar="PLAN",
        help="first run what is missing of a plan, e.g. configs/leaderboards/tiny.yaml",
    )
    add("--jobs", type=int, default=1, metavar="N", help="runs of the plan at a time")
    add("--format", choices=list(FORMATS), default="terminal", help="of what is printed")
    add("--output", type=Path, metavar="FILE", help=f"write it too, in the format of its name: {', '.join(SUFFIXES)}")
    add("--benchmark", action="append", default=[], metavar="ID", help="only this benchmark; may be repeated")
    add("--method", action="append", default=[], metavar="NAME", help="only methods named like this; may be repeated")
    return parser
