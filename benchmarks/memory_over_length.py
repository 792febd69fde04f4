"""Measure the peak memory of a method on videos of several lengths, with which it must not grow.

    python benchmarks/memory_over_length.py
    python benchmarks/memory_over_length.py --model methods.sslvos.SSLVOS --row nano '{"weights": "random"}'

Each row (a name and the method's arguments) and each length runs in a process of its own: a generated ``long`` video
with two targets, frame by frame; masks are discarded. The table has the peak resident memory, its ratio to that of the
first length, the part of it after the model was built, frames per second, the largest number of frames without an
answer yet and, for HQ-SMem, the frames in its long-term memory at the end. ``--record`` adds the measurements to a JSON
file; ``--plot`` draws the file; with an empty ``--lengths`` nothing is measured.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.line_charts import line_charts

NANO = ("nano", '{"size": "nano", "image_size": 256, "weights": "nano"}')
PANELS = (("tracking", "peak MB since the model was built"), ("bank", "frames in the long-term memory"))


def peak() -> float:
    """Return the largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(frames: int, path: str, settings: dict[str, Any], side: int) -> dict[str, float]:
    """Track one generated video.

    Args:
        frames: length of the video.
        path: class path of the method.
        settings: constructor arguments of the method.
        side: height and width of the frames in pixels.

    Returns:
        ``peak`` and ``tracking`` (after the model was built) in MB, ``fps``, ``lag`` (largest number of frames without
        an answer yet) and, for HQ-SMem, ``bank`` (frames in the long-term memory).
    """
    import time

    import torch
    from jsonargparse import ArgumentParser

    from common.synthetic import SyntheticClips

    torch.set_num_threads(1)
    torch.manual_seed(0)
    module, _, name = path.rpartition(".")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(getattr(importlib.import_module(module), name), "model")
    model = parser.instantiate(parser.parse_object({"model": settings})).model.eval()
    video = SyntheticClips("long", length=4, frames=frames, size=(side, side), seed=7, objects=2)[0]
    session, open_, lag, built, start = model.session(), 0, 0, peak(), time.perf_counter()
    for index, frame in enumerate(video):
        open_ += 1 - len(session.step(frame, [p for p in video.prompts if p.frame == index]))
        lag = max(lag, open_)
    session.finish()
    seconds = time.perf_counter() - start
    measured: dict[str, float] = {"peak": peak(), "tracking": peak() - built, "fps": frames / seconds, "lag": lag}
    if hasattr(session, "tracker"):
        measured["bank"] = sum(len(group.engine.bank) for group in session.tracker.groups)
    return {key: round(value, 1) for key, value in measured.items()}


def svg(rows: list[dict[str, Any]]) -> str:
    """Draw memory over the length of the video in two panels, one line a row.

    Args:
        rows: measurements.
    """
    names = list(dict.fromkeys(row["name"] for row in rows))

    def points(name: str, key: str) -> list[tuple[float, float]]:
        return [(row["frames"], row[key]) for row in rows if row["name"] == name]

    panels = {title: {name: points(name, key) for name in names} for key, title in PANELS}
    return line_charts(panels, "frames of the video")


def show(rows: list[dict[str, Any]]) -> None:
    """Print a table.

    Args:
        rows: measurements.
    """
    print("| | frames | peak MB | ratio | of it tracking, MB | frames / s | most undecided | in the bank |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    base: dict[str, float] = {}
    for row in rows:
        first = base.setdefault(row["name"], row["peak"])
        print(
            f"| {row['name']} | {row['frames']:,} | {row['peak']:.0f} | {row['peak'] / first:.3f} | "
            f"{row['tracking']:.0f} | {row['fps']:.1f} | {row['lag']:.0f} | {row.get('bank', '')} |"
        )


def main() -> int:
    """Measure, print and plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="*", default=[200, 2000])
    parser.add_argument("--model", default="methods.sam2long.SAM2Long", help="class path of a method")
    parser.add_argument(
        "--row", nargs=2, action="append", metavar=("NAME", "JSON"), help="name and constructor arguments of a row"
    )
    parser.add_argument("--side", type=int, default=256, help="height and width of the frames in pixels")
    parser.add_argument("--record", type=Path, help="JSON file that measurements are added to")
    parser.add_argument("--plot", type=Path, help="SVG file to draw the measurements to")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(run(args.child, args.model, json.loads(args.row[0][1]), args.side)))
        return 0
    from common.records.environment import environment

    rows = json.loads(args.record.read_text("utf-8"))["rows"] if args.record and args.record.exists() else []
    for name, settings in args.row or [NANO]:
        for length in args.lengths:
            options = ["--model", args.model, "--side", str(args.side), "--row", name, settings, "--child", str(length)]
            call = subprocess.run([sys.executable, __file__, *options], stdout=subprocess.PIPE, text=True, check=True)
            row = {"name": name, "frames": length, "model": args.model, "settings": json.loads(settings)}
            row |= {"side": args.side, **json.loads(call.stdout.splitlines()[-1])}
            rows = [old for old in rows if (old["name"], old["frames"]) != (name, length)] + [row]
            if args.record:
                args.record.parent.mkdir(parents=True, exist_ok=True)
                text = json.dumps({"rows": rows, **environment()}, indent=1, ensure_ascii=False)
                args.record.write_text(text + "\n", encoding="utf-8")
    show(rows)
    if args.plot and rows:
        args.plot.write_text(svg(rows), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
