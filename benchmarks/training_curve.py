"""Draw the validation curve of training runs as an SVG and print it as a table.

python benchmarks/training_curve.py runs/nano_scratch runs/nano_long --output docs/images/nano_curve.svg
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.line_charts import line_charts


def curves(runs: list[Path]) -> dict[str, list[tuple[int, float]]]:
    """Return (step, J&F) of every validation benchmark by name, with the steps of the runs counted on.

    Args:
        runs: run folders, in the order of training.
    """
    points: dict[str, list[tuple[int, float]]] = {}
    before = 0
    for run in runs:
        last = 0
        for log in sorted(run.glob("logs/version_*/metrics.csv")):
            for row in csv.DictReader(log.open()):
                last = max(last, int(row["step"]) + 1)
                for name, value in row.items():
                    if name.endswith("/J&F") and value:
                        points.setdefault(name.removesuffix("/J&F"), []).append((before + last, float(value)))
        before += last
    return points


def main() -> None:
    """Write the plot and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, in the order of training")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    lines = curves(args.runs)
    args.output.write_text(line_charts({"J&F": lines}, "steps"), encoding="utf-8")
    print(f"| step | {' | '.join(lines)} |\n| ---: |{' ---: |' * len(lines)}")
    for row in zip(*lines.values(), strict=True):
        print(f"| {row[0][0]} | {' | '.join(f'{value:.3f}' for _, value in row)} |")


if __name__ == "__main__":
    main()
