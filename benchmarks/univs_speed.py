"""UniVS over the number of targets and over the length of a video: milliseconds a frame and peak memory.

    python benchmarks/univs_speed.py                                                    # nano, 128 x 128
    python benchmarks/univs_speed.py --backbone resnet50 --size 128 192 --frames 6 --lengths
    python benchmarks/univs_speed.py --backbone resnet50 --size 640 1138 --device cuda --lengths 50 200

Every run is a process of its own: random weights, and a generated video in which each target is given by its mask on
the first frame. Random weights lose their targets, so that pools would hold less than those of trained ones; here every
prediction is taken, whatever it is like, and all pools are full. On the CPU, seconds of CPU time are counted, which
other load hardly changes; on a GPU those of the clock. The frames of the first clip are not timed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def peak(device: str) -> float:
    """Largest memory so far in MB: of the GPU, else of this process."""
    import torch

    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return (torch.cuda.max_memory_allocated() if device == "cuda" else resident) / 1e6


def child(targets: int, frames: int, args: argparse.Namespace) -> dict[str, float]:
    """Follow some targets through some frames: ms of a frame after the first clip, peak MB and that before tracking."""
    import torch

    from common.video import Prompt
    from methods.univs.network.model import UniVSNetwork
    from methods.univs.session import UniVSSession
    from methods.univs.settings import InferenceSettings, preset

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    nano = args.backbone == "nano"
    model = UniVSNetwork(preset(args.backbone)).eval().to(args.device)
    sizes = dict(clip=3, memory=3, points=32) if nano else {}
    settings = InferenceSettings(**sizes, short_side=None, min_similarity=-2.0, min_area_share=0.0, min_first_iou=-1.0)
    session, (height, width) = UniVSSession(model, settings), args.size
    side = height // 4
    prompts = []
    for target in range(1, targets + 1):
        mask = torch.zeros(height, width, dtype=torch.bool)
        y, x = (target * 37) % (height - side), (target * 61) % (width - side)
        mask[y : y + side, x : x + side] = True
        prompts.append(Prompt(target, mask=mask))
    noise = torch.Generator().manual_seed(1)
    clock = time.perf_counter if args.device == "cuda" else time.process_time
    built, start, answered = peak(args.device), 0.0, 0
    for index in range(frames):
        frame = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=noise).to(args.device)
        if index == settings.clip:
            start = clock()
        answered += len(session.step(frame, prompts if index == 0 else ()))
        if args.device == "cuda":
            torch.cuda.synchronize()
    timed = 1000 * (clock() - start) / (frames - settings.clip)
    answered += len(session.finish())
    assert answered == frames
    return {"ms": timed, "peak": peak(args.device), "built": built}


def run(targets: int, frames: int) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, *sys.argv[1:], "--child", str(targets), str(frames)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{targets} targets, {frames} frames: failed: {done.stderr.strip()[-300:] or done.returncode}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    backbones = ("nano", "resnet50", "swin-tiny", "swin-base", "swin-large")
    parser.add_argument("--backbone", default="nano", choices=backbones)
    parser.add_argument("--size", type=int, nargs=2, default=[128, 128], metavar=("H", "W"))
    parser.add_argument("--targets", type=int, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument("--frames", type=int, default=12, help="of each run over targets; more than a clip")
    parser.add_argument("--lengths", type=int, nargs="*", default=[50, 200, 1000], help="frames, with two targets")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", type=int, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(*args.child, args)))
        return 0
    print(f"{args.backbone}, {args.size[0]} x {args.size[1]}, {args.device}, {args.threads} threads")
    for head, runs in (
        ("targets", [(count, (count, args.frames)) for count in args.targets]),
        ("frames", [(length, (2, length)) for length in args.lengths]),
    ):
        if runs:
            print(f"| {head} | ms / frame | ratio | peak MB | ratio | of it tracking, MB |")
            print("| ---: | ---: | ---: | ---: | ---: | ---: |")
        base: dict[str, float] = {}
        for label, what in runs:
            out = run(*what)
            base = base or out
            slower, larger = out["ms"] / base["ms"], out["peak"] / base["peak"]
            tracking = out["peak"] - out["built"]
            print(
                f"| {label} | {out['ms']:.0f} | {slower:.2f} | {out['peak']:.0f} | {larger:.3f} | {tracking:.0f} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
