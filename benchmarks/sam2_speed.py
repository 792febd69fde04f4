"""Seconds a frame and peak memory: our SAM 2 against the sam2 package, SAM2Long at P = 1 to 4 against the official one.

    python benchmarks/sam2_speed.py                                        # ours and the sam2 package (if installed)
    python benchmarks/sam2_speed.py --official PATH/TO/SAM2Long --uncertain

Every contender runs in a process of its own on the same seeded SAM 2.1 weights and the same clip, one after the other,
for several rounds. Counted are the frames with a full memory (7 maps); the table gives the median over all of them and
the ratio to the first row. ``certain`` clips keep all pathways together, ``--uncertain`` ones keep them apart.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

FULL = 8  # first frame whose memory is full
CONTENDERS = {
    "ours, SAM 2": dict(pathways=1, selection=False, modulation=None),
    "ours, P = 1": dict(pathways=1),
    "ours, P = 2": dict(pathways=2),
    "ours, P = 3": dict(pathways=3),
    "ours, P = 4": dict(pathways=4),
}


def child(name: str, args: argparse.Namespace) -> dict:
    """Run one contender in this process: seconds of each counted frame, peak resident memory in MB."""
    if name.startswith("official"):
        sys.path.insert(0, str(args.official))
    import torch

    from tests.support.seeded import CASES, case_video

    torch.set_num_threads(args.threads)
    case = replace(CASES["uncertain" if args.uncertain else "certain"], frames=args.frames)
    video = case_video(case)
    seconds = run_ours(name, case, video, args) if name in CONTENDERS else run_official(name, case, video, args)
    on_gpu = args.device == "cuda"
    peak = (
        torch.cuda.max_memory_allocated() / 2**20
        if on_gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    )
    return {"seconds": seconds[FULL:], "peak": peak}


def run_ours(name: str, case, video, args: argparse.Namespace) -> list[float]:
    import torch

    from common.nn.sam2 import SAM2
    from methods.sam2long.session import SAM2LongSession
    from tests.support.seeded import seed_ours

    model = seed_ours(SAM2(args.size, "2.1"), case).to(args.device)
    session = SAM2LongSession(model, replace(case.settings, **CONTENDERS[name]), length=len(video))
    seconds = []
    for index, frame in enumerate(video):
        start = time.perf_counter()
        session.step(frame.to(args.device), video.prompts if index == 0 else ())
        if args.device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds


def config_of(size: str) -> str:
    return f"configs/sam2.1/sam2.1_hiera_{dict(tiny='t', small='s', base_plus='b+', large='l')[size]}.yaml"


def run_official(name: str, case, video, args: argparse.Namespace) -> list[float]:
    """The sam2 package, or the official SAM2Long (whose package has the same name)."""
    import torch
    from PIL import Image
    from sam2.build_sam import build_sam2_video_predictor

    from tests.support.seeded import seed_official

    predictor = build_sam2_video_predictor(config_of(args.size), None, device=args.device, apply_postprocessing=False)
    predictor.load_state_dict(seed_official(predictor.state_dict(), case))
    if name == "official SAM2Long, any kernel":
        from sam2.modeling.sam import transformer

        transformer.sdp_kernel_context = lambda dropout_p: nullcontext()
    marks: list[float] = []
    encode = predictor.forward_image  # called once a frame: the clock of both official predictors

    def timed(image):
        if args.device == "cuda":
            torch.cuda.synchronize()
        marks.append(time.perf_counter())
        return encode(image)

    predictor.forward_image = timed
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        for index, frame in enumerate(video):
            Image.fromarray(frame.numpy()).save(f"{folder}/{index:05d}.jpg", quality=95)
        state = predictor.init_state(video_path=folder)
        state["num_pathway"], state["iou_thre"] = case.settings.pathways, case.settings.iou_threshold
        state["uncertainty"] = case.settings.confidence
        predictor.add_new_mask(state, 0, 1, video.prompts[0].mask)
        for _ in predictor.propagate_in_video(state):
            pass
    return [b - a for a, b in pairwise(marks)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--official", type=Path, help="an unpacked SAM2Long checkout")
    parser.add_argument("--uncertain", action="store_true", help="a clip on which every frame is uncertain")
    parser.add_argument("--size", default="tiny", choices=("tiny", "small", "base_plus", "large"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="names of contenders")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(args.child, args)))
        return 0
    names = ["sam2 package", *CONTENDERS]
    if args.official:
        names += ["official SAM2Long, as shipped", "official SAM2Long, any kernel"]
    names = [name for name in names if not args.only or name in args.only]
    results: dict[str, dict[str, list[float]]] = {name: {"seconds": [], "peak": []} for name in names}
    for _ in range(args.rounds):
        for name in names:
            command = [sys.executable, __file__, *sys.argv[1:], "--child", name]
            run = subprocess.run(command, capture_output=True, text=True)
            if run.returncode:
                print(f"{name}: failed: {run.stderr.strip().splitlines()[-1]}", flush=True)
                continue
            out = json.loads(run.stdout.strip().splitlines()[-1])
            results[name]["seconds"] += out["seconds"]
            results[name]["peak"].append(out["peak"])
    kind = "uncertain" if args.uncertain else "certain"
    where = f"{args.device}, {args.threads} threads, {platform.processor() or platform.machine()}"
    print(f"SAM 2.1 {args.size}, 1024 px, float32, {kind} clip, {where}")
    print("| contender | s / frame | ratio | peak MB |\n| --- | ---: | ---: | ---: |")
    base = None
    for name, result in results.items():
        if result["seconds"]:
            median = statistics.median(result["seconds"])
            base = base or median
            print(f"| {name} | {median:.2f} | {median / base:.2f} | {max(result['peak']):.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
