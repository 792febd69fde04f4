"""Seconds a clip and peak memory: VQ-SAM against SAM 2 with the query as a memory, on the same clip and query.

    python benchmarks/vqsam_speed.py                          # CPU: the ratio is what counts
    python benchmarks/vqsam_speed.py --device cuda --bf16     # beside the paper's 29 fps and 9.7 GB

Every contender runs in a process of its own at the paper's size (Hiera-B+, 768 x 768) on the same seeded SAM 2.1
weights; the new parts of VQ-SAM keep their initial values, which cost what trained ones do. Its thresholds are zero, so
that later stages read as much memory as there can be. A clip is one query and ``--frames`` frames. On the CPU, seconds
of CPU time are counted, which other load hardly changes; on a GPU those of the clock, after a first clip.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

STAGES = {"VQ-SAM, K = 1": 1, "VQ-SAM, K = 2": 2, "VQ-SAM, K = 3": 3}
CONTENDERS = ["SAM 2", *STAGES]
PAPER = "| paper, K = 2, one A6000 | | | 29 | 9.7 |"


def child(name: str, args: argparse.Namespace) -> dict:
    """Run one contender in this process: seconds of each counted clip, peak memory in GB."""
    import torch

    from common.nn.sam2 import SAM2
    from common.synthetic import SyntheticQueries
    from methods.sam2long.picks import TreeSettings
    from methods.sam2long.session import SAM2LongSession
    from methods.vqsam.model import Settings, VQSAMNetwork
    from methods.vqsam.session import VQSAMSession
    from tests.support.seeded import CASES, seed_ours

    torch.set_num_threads(args.threads)
    core = seed_ours(SAM2(args.size, "2.1", args.image_size), CASES["certain"])
    video = SyntheticQueries(length=1, frames=args.frames, size=(args.image_size, args.image_size), seed=1)[0]
    if name in STAGES:
        settings = Settings(stages=STAGES[name], target_iou=0.0, divergence=0.0, distractor_iou=0.0)
        session = VQSAMSession(VQSAMNetwork(core, settings).eval().to(args.device), args.frames)
    else:
        greedy = TreeSettings(pathways=1, selection=False, modulation=None)
        session = SAM2LongSession(core.to(args.device), greedy, length=args.frames)
    on_gpu, seconds = args.device == "cuda", []
    clock = time.perf_counter if on_gpu else time.process_time
    frames = [frame.to(args.device) for frame in video]
    for _ in range(args.clips + on_gpu):
        session.reset()
        start = clock()
        with torch.autocast(args.device, torch.bfloat16, enabled=args.bf16):
            answers = [a for i, f in enumerate(frames) for a in session.step(f, video.prompts if i == 0 else ())]
            answers += session.finish()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(clock() - start)
        assert len(answers) == args.frames
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "seconds": seconds[int(on_gpu) :],
        "peak": (torch.cuda.max_memory_allocated() if on_gpu else resident) / 1e9,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="base_plus", choices=("nano", "tiny", "small", "base_plus", "large"))
    parser.add_argument("--image-size", type=int, default=768)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--bf16", action="store_true", help="autocast, as in configs/vqsam/paper.yaml")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--clips", type=int, default=1, help="clips counted in each round")
    parser.add_argument("--rounds", type=int, default=1, help="times that all contenders run, one after the other")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=CONTENDERS, choices=CONTENDERS, help="names of contenders")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(args.child, args)))
        return 0
    results: dict[str, dict[str, list[float]]] = {name: {"seconds": [], "peak": []} for name in args.only}
    for _ in range(args.rounds):
        for name, result in results.items():
            run = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], "--child", name], capture_output=True, text=True
            )
            if run.returncode:
                print(f"{name}: failed: {run.stderr.strip()[-200:] or run.returncode}", flush=True)
                continue
            out = json.loads(run.stdout.strip().splitlines()[-1])
            result["seconds"] += out["seconds"]
            result["peak"].append(out["peak"])
    kind, where = "bfloat16" if args.bf16 else "float32", platform.processor() or platform.machine()
    clip = f"{args.size}, {args.image_size} px, {args.frames} frames"
    print(f"{clip}, {kind}, {args.device}, {args.threads} threads, {where}")
    print("| contender | s / clip | ratio | frames / s | peak GB |\n| --- | ---: | ---: | ---: | ---: |")
    base = None
    for name, result in results.items():
        if result["seconds"]:
            median = statistics.median(result["seconds"])
            base = base or median
            speed, peak = args.frames / median, max(result["peak"])
            print(f"| {name} | {median:.2f} | {median / base:.2f} | {speed:.3g} | {peak:.2f} |")
    print(PAPER)
    return 0


if __name__ == "__main__":
    sys.exit(main())
