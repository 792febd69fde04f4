"""The verb ``report``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from common.errors import InputError
from common.files import write_text
from common.leaderboard.collect import collect, published
from common.leaderboard.table import table
from common.report.page import page
from common.report.sequences import figures


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page.

    Raises:
        InputError: no records, or damaged ones.
    """
    args = _parser().parse_args(argv)
    records = collect(args.runs)
    if not records:
        where = ", ".join(map(str, args.runs))
        raise InputError(f"{where}: there are no records (results.json) to report; run the verb test first")
    grids = table(records, published() if args.papers else ())
    found, notes = figures(records, args.sequences, args.frames)
    write_text(args.output, page(records, grids, found, notes, args.output.parent))
    for note in notes:
        print(note)
    size = args.output.stat().st_size / 1e6
    print(f"{args.output}  {size:.1f} MB, {len(records)} records, {len(found)} sequences with frames")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cli.py report",
        description="One HTML file: tables, scores of every sequence, frames of all methods side by side. Frames are "
        "shown of runs that kept their predictions (--model.save_predictions true) and whose data is here.",
    )
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUNS", help="folders or results.json files")
    add("--output", type=Path, default=Path("report.html"), metavar="FILE", help="default: %(default)s")
    add("--papers", action="store_true", help="also the numbers that the papers print")
    add("--sequences", type=int, default=3, metavar="N", help="of each benchmark with frames, the worst (default: 3)")
    add("--frames", type=int, default=24, metavar="N", help="of each sequence (default: 24)")
    return parser
