"""Peak memory of a method on a stream of 200 and of 2,000 frames: it must not grow with the length.

    python benchmarks/memory_over_length.py
    python benchmarks/memory_over_length.py --model methods.sslvos.SSLVOS --settings '{"weights": "random"}'

Each length runs in a process of its own: a generated ``long`` video of 256 x 256 with two targets, frame by frame,
answers thrown away as a consumer would. Printed are the peak resident memory, how much of it came after the model was
built, and the most frames that were undecided.
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

NANO = '{"size": "nano", "image_size": 256, "weights": "nano"}'


def peak() -> float:
    """Largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(frames: int, path: str, settings: dict[str, Any]) -> dict[str, float]:
    """Track one video of that many frames; peak memory in MB, frames a second, largest number of open frames."""
    import time

    import torch

    from common.video.synthetic import SyntheticClips

    torch.set_num_threads(1)
    torch.manual_seed(0)
    module, _, name = path.rpartition(".")
    model = getattr(importlib.import_module(module), name)(**settings).eval()
    video = SyntheticClips("long", length=4, frames=frames, size=(256, 256), seed=7, objects=2)[0]
    session, open_, lag, built, start = model.session(), 0, 0, peak(), time.perf_counter()
    for index, frame in enumerate(video):
        open_ += 1 - len(session.step(frame, [p for p in video.prompts if p.frame == index]))
        lag = max(lag, open_)
    session.finish()
    seconds = time.perf_counter() - start
    return {"peak": peak(), "tracking": peak() - built, "fps": frames / seconds, "lag": lag}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--model", default="methods.sam2long.SAM2Long", help="class path of a method")
    parser.add_argument("--settings", default=NANO, help="its arguments, as JSON")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(run(args.child, args.model, json.loads(args.settings))))
        return 0
    print("| frames | peak MB | ratio | of it tracking, MB | frames / s | most undecided |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    base = 0.0
    for length in args.lengths:
        command = [sys.executable, __file__, "--model", args.model, "--settings", args.settings, "--child", str(length)]
        out = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        base = base or out["peak"]
        print(
            f"| {length} | {out['peak']:.0f} | {out['peak'] / base:.3f} | {out['tracking']:.0f} | {out['fps']:.1f} | "
            f"{out['lag']:.0f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
