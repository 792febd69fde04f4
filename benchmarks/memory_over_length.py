"""Peak memory of SAM2Long on a stream of 200 and of 2,000 frames: it must not grow with the length.

    python benchmarks/memory_over_length.py

Each length runs in a process of its own: the nano model at 256 x 256 on a generated ``long`` video, frame by frame,
answers thrown away as a consumer would. Printed are the peak resident memory and the most frames that were undecided.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def run(frames: int, weights: str) -> dict[str, float]:
    """Track one video of that many frames; peak memory in MB, frames a second, largest number of open frames."""
    import time

    import torch

    from common.video.synthetic import SyntheticClips
    from methods.sam2long import SAM2Long

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = SAM2Long(size="nano", image_size=256, weights=weights).eval()
    video = SyntheticClips("long", length=4, frames=frames, size=(256, 256), seed=7, objects=2)[0]
    session, lag, start = model.session(), 0, time.perf_counter()
    for index, frame in enumerate(video):
        session.step(frame, [p for p in video.prompts if p.frame == index])
        lag = max(lag, len(session._due))
    session.finish()
    seconds = time.perf_counter() - start
    return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "fps": frames / seconds, "lag": lag}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--weights", default="nano")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(run(args.child, args.weights)))
        return 0
    print("| frames | peak MB | ratio | frames / s | most undecided |\n| ---: | ---: | ---: | ---: | ---: |")
    base = 0.0
    for length in args.lengths:
        command = [sys.executable, __file__, "--weights", args.weights, "--child", str(length)]
        out = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        base = base or out["peak"]
        print(
            f"| {length} | {out['peak']:.0f} | {out['peak'] / base:.3f} | {out['fps']:.1f} | {out['lag']} |", flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
