"""Peak memory of a method on streams of several lengths: it must not grow with them.

    python benchmarks/memory_over_length.py
    python benchmarks/memory_over_length.py --model methods.sslvos.SSLVOS --row nano '{"weights": "random"}'

Each row (a name and the method's arguments) and each length runs in a process of its own: a generated ``long`` video
with two targets, frame by frame, answers thrown away as a consumer would. Printed are the peak resident memory, its
ratio to that of the first length, how much of it came after the model was built, frames a second, the most frames that
were undecided and, of HQ-SMem, the frames in its long-term memory at the end. ``--record`` keeps what was measured and
adds to what it holds; ``--plot`` draws the record, with an empty ``--lengths`` as it is.
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
    """Largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(frames: int, path: str, settings: dict[str, Any], side: int) -> dict[str, float]:
    """Track one video of that many frames; memory in MB, frames a second, largest number of open frames."""
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
    found = {"peak": peak(), "tracking": peak() - built, "fps": frames / seconds, "lag": lag}
    if hasattr(session, "tracker"):
        found["bank"] = sum(len(group.engine.bank) for group in session.tracker.groups)
    return {key: round(value, 1) for key, value in found.items()}


def svg(rows: list[dict[str, Any]]) -> str:
    """Two panels over the length of the video, one line a row."""
    names = list(dict.fromkeys(row["name"] for row in rows))

    def points(name: str, key: str) -> list[tuple[float, float]]:
        return [(row["frames"], row[key]) for row in rows if row["name"] == name]

    panels = {title: {name: points(name, key) for name in names} for key, title in PANELS}
    return line_charts(panels, "frames of the video")


def show(rows: list[dict[str, Any]]) -> None:
    """Print a table."""
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="*", default=[200, 2000])
    parser.add_argument("--model", default="methods.sam2long.SAM2Long", help="class path of a method")
    parser.add_argument("--row", nargs=2, action="append", metavar=("NAME", "JSON"), help="a name, its arguments")
    parser.add_argument("--side", type=int, default=256, help="of the frames, in pixels")
    parser.add_argument("--record", type=Path, help="JSON to add to")
    parser.add_argument("--plot", type=Path, help="SVG of the record")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(run(args.child, args.model, json.loads(args.row[0][1]), args.side)))
        return 0
    from common.records.environment import environment

    kept = json.loads(args.record.read_text("utf-8"))["rows"] if args.record and args.record.exists() else []
    for name, settings in args.row or [NANO]:
        for length in args.lengths:
            options = ["--model", args.model, "--side", str(args.side), "--row", name, settings, "--child", str(length)]
            call = subprocess.run([sys.executable, __file__, *options], stdout=subprocess.PIPE, text=True, check=True)
            row = {"name": name, "frames": length, "model": args.model, "settings": json.loads(settings)}
            row |= {"side": args.side, **json.loads(call.stdout.splitlines()[-1])}
            kept = [old for old in kept if (old["name"], old["frames"]) != (name, length)] + [row]
            if args.record:
                args.record.parent.mkdir(parents=True, exist_ok=True)
                text = json.dumps({"rows": kept, **environment()}, indent=1, ensure_ascii=False)
                args.record.write_text(text + "\n", encoding="utf-8")
    show(kept)
    if args.plot and kept:
        args.plot.write_text(svg(kept), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
