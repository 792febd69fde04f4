"""Seconds a frame of the official Cutie and of our core, in turn, frame by frame, in one process on one thread.

    python benchmarks/sslvos_speed.py --official PATH/TO/Cutie [--size 480 854] [--targets 1 3 10] [--trunk 50]

Both have the same seeded weights, published widths and Cutie's default memory: a frame in five, five frames, top 30.
Masks given on the first five frames fill the memory; the frames after them are tracked and counted, in processor time.
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
from methods.sslvos.settings import CoreSettings, MemorySettings
from methods.sslvos.tracker import Tracker
from tests.methods.seeded_sslvos import Case, case_video, seed_ours

FILL = 5  # frames with given masks


def seconds(call: Callable[..., Any], *args: Any) -> float:
    start = time.process_time()
    call(*args)
    return time.process_time() - start


@torch.inference_mode()
def compare(trunk: int, size: tuple[int, int], targets: int, frames: int) -> None:
    """Print a row: medians over the tracked frames, and over all of them together the ratio."""
    case = Case(trunk, CoreSettings(), MemorySettings(skip_absent=False), frames=FILL + frames, visible=1.0)
    video, theirs, ours = case_video(case, targets, size), [], []
    official, tracker = official_model(case)[2], Tracker(seed_ours(case), case.memory, None)
    for index, frame in enumerate(video):
        image, given = frame.permute(2, 0, 1).float() / 255, {}
        if index < FILL:
            given = dict(zip(video.targets, video.truth[index], strict=True))
            labels = sum(mask.long() * target for target, mask in given.items())
            official.step(image, labels, list(given))
            tracker.step(frame, given)
        else:
            theirs.append(seconds(official.step, image))
            ours.append(seconds(tracker.step, frame, given))
    a, b = sum(theirs), sum(ours)
    print(
        f"| ResNet-{trunk} | {size[0]}x{size[1]} | {targets} | {statistics.median(theirs):.2f} | "
        f"{statistics.median(ours):.2f} | {a / b:.2f} |",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--official", type=Path, required=True, help="an unpacked Cutie checkout")
    parser.add_argument("--trunk", type=int, choices=(18, 50), default=50)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 854))
    parser.add_argument("--targets", type=int, nargs="+", default=(1, 3, 10))
    parser.add_argument("--frames", type=int, default=10, help="tracked ones; in fives, for their share of memory")
    args = parser.parse_args()
    sys.path.insert(0, str(args.official))
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    print("| trunk | size | targets | official, s | ours, s | faster |\n| --- | --- | ---: | ---: | ---: | ---: |")
    for targets in args.targets:
        compare(args.trunk, (args.size[0], args.size[1]), targets, args.frames)
    return 0


if __name__ == "__main__":
    sys.exit(main())
