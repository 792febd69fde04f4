"""Seconds a frame: the official Cutie and our core in turn, frame by frame, in one process; or our image encoders.

    python benchmarks/sslvos_speed.py --official PATH/TO/Cutie [--size 480 854] [--targets 1 3 10] [--trunk 50]
    python benchmarks/sslvos_speed.py                                 # the rows of Tables 1 and 2, a target each

One thread, processor time, Cutie's default memory: a frame in five, five frames, top 30. Masks given on the first five
frames fill it; the frames after them are tracked and counted. Both programs have the same seeded weights and published
widths; our encoders have random ones.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.parity_sslvos import official_model
from common.video import Video
from methods.sslvos.build import Parts, build_core
from methods.sslvos.settings import CoreSettings, MemorySettings
from methods.sslvos.tracker import Tracker
from tests.support.seeded_sslvos import Case, case_video, seed_ours

FILL = 5  # frames with given masks
MEMORY = MemorySettings(skip_absent=False)
ENCODERS = ("resnet", "pyramid", "spatial", "full", "vit-adapter", "vit-comer")


def seconds(video: Video, *steps: Callable[..., Any]) -> list[list[float]]:
    """Of each tracked frame, by each of several programs: what takes the frame and the masks by target."""
    took: list[list[float]] = [[] for _ in steps]
    for index, frame in enumerate(video):
        given = dict(zip(video.targets, video.truth[index], strict=True)) if index < FILL else {}
        for step, times in zip(steps, took, strict=True):
            start = time.process_time()
            step(frame, given)
            if not given:
                times.append(time.process_time() - start)
    return took


@torch.inference_mode()
def compare(trunk: int, size: tuple[int, int], targets: int, frames: int) -> None:
    """Print a row: medians over the tracked frames, and the ratio of their sums."""
    case = Case(trunk, CoreSettings(), MEMORY, frames=FILL + frames, visible=1.0)
    core = official_model(case)[2]

    def official(frame: torch.Tensor, given: dict[int, torch.Tensor]) -> None:
        image = frame.permute(2, 0, 1).float() / 255
        if given:
            core.step(image, sum(mask.long() * target for target, mask in given.items()), list(given))
        else:
            core.step(image)

    theirs, ours = seconds(case_video(case, targets, size), official, Tracker(seed_ours(case), MEMORY, None).step)
    print(
        f"| ResNet-{trunk} | {size[0]}x{size[1]} | {targets} | {statistics.median(theirs):.2f} | "
        f"{statistics.median(ours):.2f} | {sum(theirs) / sum(ours):.2f} |",
        flush=True,
    )


@torch.inference_mode()
def encoders(size: tuple[int, int], frames: int) -> None:
    """Print a row for each image encoder."""
    print("| image encoder | parameters, M | whole frame, s | image encoder, s |\n| --- | ---: | ---: | ---: |")
    case = Case(memory=MEMORY, frames=FILL + frames)
    for kind in ENCODERS:
        core = build_core(Parts("sslvos", kind)).eval()
        parameters = sum(p.numel() for p in core.encoder.parameters()) / 1e6
        encode, inner = core.encoder.forward, []

        def timed(image: torch.Tensor, encode: Any = encode, inner: list[float] = inner) -> Any:
            start = time.process_time()
            out = encode(image)
            inner.append(time.process_time() - start)
            return out

        core.encoder.forward = timed
        (took,) = seconds(case_video(case, 1, size), Tracker(core, MEMORY, None).step)
        print(
            f"| `{kind}` | {parameters:.1f} | {statistics.median(took):.2f} | {statistics.median(inner[FILL:]):.2f} |",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--official", type=Path, help="an unpacked Cutie checkout")
    parser.add_argument("--trunk", type=int, choices=(18, 50), default=50)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 854))
    parser.add_argument("--targets", type=int, nargs="+", default=(1, 3, 10))
    parser.add_argument("--frames", type=int, default=10, help="tracked ones; in fives, for their share of memory")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    size = (args.size[0], args.size[1])
    if args.official is None:
        encoders(size, args.frames)
        return 0
    sys.path.insert(0, str(args.official))
    print("| trunk | size | targets | official, s | ours, s | faster |\n| --- | --- | ---: | ---: | ---: | ---: |")
    for targets in args.targets:
        compare(args.trunk, size, targets, args.frames)
    return 0


if __name__ == "__main__":
    sys.exit(main())
