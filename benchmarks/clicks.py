"""J&F of generated clips whose targets are given by one click, and corrected by no, one and three further clicks.

    python benchmarks/clicks.py [--videos 24] [--postprocess] [--weights FILE --config FILE]

Every click is simulated: it lies in the largest error of the answer to the clicks before (``common.inference.clicks``).
All are on the first frame of the target; then the clip is tracked. By default the weights are those of ``track``;
``--postprocess`` adds what ``track`` does with published weights. J&F is that of ``test`` on as many videos of
``tiny-easy``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from common.benchmarks.tiny import Tiny
from common.cli.build import build_method, track_defaults
from common.inference.clicks import track_clicked
from common.segmenter import VideoSegmenter

METHOD, CORRECTIONS = "sam2long", (0, 1, 3)


def scores(model: VideoSegmenter, benchmark: Tiny, corrections: int) -> dict[str, float]:
    """J&F, J and F, in percent."""
    metric = benchmark.metric()
    for id in benchmark.ids:
        video = benchmark.open(id)
        metric.extend(**benchmark.measure(video, track_clicked(model.session(), video, corrections, model.device)))
    return {key: 100 * float(value) for key, value in metric.compute().items() if key in ("J&F", "J", "F")}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=6)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--postprocess", action="store_true")
    parser.add_argument("--config", type=Path, action="append", default=[])
    parser.add_argument("--weights")
    args = parser.parse_args()
    defaults = track_defaults(METHOD)
    own = args.config or args.weights
    settings = dict(defaults.settings) if args.postprocess else {}
    configs, weights = (args.config, args.weights) if own else (defaults.configs, defaults.weights)
    model = build_method(METHOD, weights, configs, settings | {"max_lag": 0}).eval()
    benchmark = Tiny(videos=args.videos, frames=args.frames)
    print(f"one click on each target, {benchmark.name}: {benchmark.protocol}")
    print("corrections   J&F     J     F")
    for corrections in CORRECTIONS:
        values = scores(model, benchmark, corrections)
        print(f"{corrections:11}  {values['J&F']:4.1f}  {values['J']:4.1f}  {values['F']:4.1f}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.inference_mode():
        main()
