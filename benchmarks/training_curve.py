"""Draw the validation curve of training runs as an SVG and print it as a table.

python benchmarks/training_curve.py runs/nano_scratch runs/nano_long --output docs/images/nano_curve.svg
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

COLOURS = ("#3b6fb6", "#c8553d", "#5b8c5a", "#8a5fa8")


def curves(runs: list[Path]) -> dict[str, list[tuple[int, float]]]:
    """(step, J&F) of every validation benchmark, the runs one after the other."""
    found: dict[str, list[tuple[int, float]]] = {}
    before = 0
    for run in runs:
        last = 0
        for log in sorted(run.glob("logs/version_*/metrics.csv")):
            for row in csv.DictReader(log.open()):
                last = max(last, int(row["step"]) + 1)
                for name, value in row.items():
                    if name.endswith("/J&F") and value:
                        found.setdefault(name.removesuffix("/J&F"), []).append((before + last, float(value)))
        before += last
    return found


def svg(found: dict[str, list[tuple[int, float]]]) -> str:
    """One line a benchmark over steps; J&F from 0 to 1."""
    width, height, left, top = 640, 300, 46, 16
    steps = max(step for points in found.values() for step, _ in points)
    place = lambda step, value: (left + step / steps * (width - left - 150), top + (1 - value) * (height - top - 34))  # noqa: E731
    box = f'viewBox="0 0 {width} {height}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="12">']
    parts.append(f'<rect width="{width}" height="{height}" fill="white"/>')
    for tick in range(0, 11, 2):
        x, y = place(0, tick / 10)
        parts.append(f'<line x1="{x}" y1="{y:.1f}" x2="{width - 150}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 8}" y="{y + 4:.1f}" text-anchor="end">{tick / 10:.1f}</text>')
    for (name, points), colour in zip(found.items(), COLOURS, strict=False):
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x, y = place(*points[-1])
        parts.append(f'<text x="{x + 6:.1f}" y="{y + 4:.1f}" fill="{colour}">{name}</text>')
    parts.append(
        f'<text x="{(width - 150 + left) / 2}" y="{height - 6}" text-anchor="middle">steps (of {steps})</text>'
    )
    parts.append('<text x="8" y="12">J&amp;F</text></svg>')
    return "\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, in the order of training")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    found = curves(args.runs)
    args.output.write_text(svg(found), encoding="utf-8")
    print(f"| step | {' | '.join(found)} |\n| ---: |{' ---: |' * len(found)}")
    for row in zip(*found.values(), strict=True):
        print(f"| {row[0][0]} | {' | '.join(f'{value:.3f}' for _, value in row)} |")


if __name__ == "__main__":
    main()
