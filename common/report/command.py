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

    Args:
        argv: arguments after the verb; default: those of the process.

    Raises:
        InputError: there is no record, or one is damaged.
    """
    args = _parser().parse_args(argv)
    records = collect(args.runs)
    if not records:
        where = ", ".join(map(str, args.runs))
        raise InputError(f"{where}: no records (results.json, .jsonl) to report; run the verb test first")
    grids = table(records, published() if args.papers else ())
    sequences, notes = figures(records, args.sequences, args.frames)
    write_text(args.output, page(records, grids, sequences, notes, args.output.parent))
    for note in notes:
        print(note)
    size = args.output.stat().st_size / 1e6
    print(f"{args.output}  {size:.1f} MB, {len(records)} records, {len(sequences)} sequences with frames")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cli.py report",
        description="One HTML file: tables, scores of every sequence, frames of all methods side by side. Frames need "
        "runs that saved their predictions (--model.save_predictions true), and the data of the benchmark.",
    )
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUNS", help="run folders, results.json or .jsonl files")
    add("--output", type=Path, default=Path("report.html"), metavar="FILE", help="default: %(default)s")
    add("--papers", action="store_true", help="add the numbers that the papers print")
    add(
        "--sequences",
        type=int,
        default=3,
        metavar="N",
        help="number of sequences of a benchmark with frames, worst first (default: 3)",
    )
    add("--frames", type=int, default=24, metavar="N", help="number of frames of a sequence (default: 24)")
    return parser
