"""The verb ``leaderboard``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from common.errors import InputError
from common.files import write_text
from common.leaderboard.collect import collect, published
from common.leaderboard.render import markdown, terminal
from common.leaderboard.table import table

RUNS = Path("runs")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table of some runs, and write it where ``--output`` says.

    Raises:
        InputError: nothing to show, or a damaged record.
    """
    args = _parser().parse_args(argv)
    runs = args.runs or [path for path in (RUNS,) if path.is_dir()]
    grids = table(collect(runs), published() if args.papers else (), args.benchmark, args.method)
    if not grids:
        where = ", ".join(map(str, args.runs or [RUNS]))
        raise InputError(f"{where}: no results to show; run the verb test first, add --papers, or ask for less")
    print(markdown(grids) if args.format == "markdown" else terminal(grids), end="")
    if args.output:
        is_markdown = args.output.suffix == ".md"
        write_text(args.output, markdown(grids) if is_markdown else terminal(grids, plain=True))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cli.py leaderboard", description="Tables of measured results beside the published numbers."
    )
    add = parser.add_argument
    add("runs", nargs="*", type=Path, metavar="RUNS", help=f"folders or results.json files (default: {RUNS})")
    add("--papers", action="store_true", help="add the numbers that the papers print")
    add("--format", choices=["terminal", "markdown"], default="terminal", help="of what is printed")
    add("--output", type=Path, metavar="FILE", help="write it too: Markdown if the name ends in .md, else plain text")
    add("--benchmark", action="append", default=[], metavar="ID", help="only this benchmark; may be repeated")
    add("--method", action="append", default=[], metavar="NAME", help="only methods named like this; may be repeated")
    return parser
