"""How well one frame is segmented from a mask, a box, one click and three clicks, and J&F of whole videos.

    python benchmarks/prompt_iou.py --weights nano
    python benchmarks/prompt_iou.py --weights runs/nano_real/checkpoints/last.ckpt --sets davis-held-out stills

Sets: ``davis-held-out`` (six sequences of DAVIS 2016 train) and ``stills`` (a tenth of the photographs) are to choose
by; ``davis-val`` is for final figures only; ``tiny`` are generated clips. The first click is the place inside the
object that is farthest from its edge, each further one the same of the largest error; the prompts of a frame are given
at once, as ``track`` takes them. J&F is that of ``test``. The record is a JSON file.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import torch
from torch import Tensor

from common.benchmarks.davis import DAVIS
from common.benchmarks.tasks.vos import VOSBenchmark
from common.benchmarks.tiny import Tiny
from common.cli.build import build_method
from common.data.clips import VideoSet
from common.data.still_folder import StillFolder
from common.files import file_sha256
from common.segmenter import VideoSegmenter
from common.video import Prompt, Video

HELD_OUT = ["lucia", "breakdance-flare", "dog-agility", "mallard-fly", "elephant", "hockey"]  # lowest CRC-32 of names
KINDS = ("mask", "box", "click", "clicks")
LEAST = 0.002  # of the frame, the least object that is asked for


def tracked(name: str) -> list[VOSBenchmark]:
    """Benchmarks of a set."""
    if name == "tiny":
        return [Tiny(preset) for preset in ("easy", "occlusion", "distractor", "reappear")]
    if name == "davis-val":
        return [DAVIS(year=2016, split="val")]
    return [DAVIS(year=2016, split="train", videos=HELD_OUT)] if name == "davis-held-out" else []


def frames(name: str, most: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Frames uint8 (H, W, 3) of a set and the mask bool (H, W) of one object on each."""
    sets: list[VideoSet] = [StillFolder(part="held_out")] if name == "stills" else list(tracked(name))
    step = 20 if name == "davis-held-out" else 1_000_000  # otherwise the first frame of a video
    for videos in sets:
        for index in range(min(len(videos), most)):
            yield from _objects(videos[index], step)


def _objects(video: Video, step: int) -> Iterator[tuple[Tensor, Tensor]]:
    assert video.truth is not None
    for time_ in range(0, len(video), step):
        masks = video.truth[time_]
        assert masks is not None
        yield from ((video[time_], mask) for mask in masks if mask.float().mean() >= LEAST)


def innermost(region: Tensor) -> tuple[int, int]:
    """X and y of the place of a mask bool (H, W) that is farthest from its edge."""
    inside = cv2.distanceTransform(np.pad(region.numpy().astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(x), int(y)


def iou(found: Tensor, truth: Tensor) -> float:
    """Of two masks, of which the second is not empty."""
    return float((found & truth).sum() / (found | truth).sum())


@torch.inference_mode()
def answer(model: VideoSegmenter, frame: Tensor, prompt: Prompt) -> Tensor:
    """The mask bool (H, W) with which a prompt is answered at once."""
    session = model.session(1)
    return [*session.step(frame, [prompt]), *session.finish()][0].masks[0]


def prompted(model: VideoSegmenter, frame: Tensor, truth: Tensor) -> dict[str, float]:
    """IoU of each kind of prompt on one object."""
    ys, xs = truth.nonzero().unbind(1)
    box = (float(xs.min()), float(ys.min()), float(xs.max()) + 1, float(ys.max()) + 1)
    found = {
        "mask": iou(answer(model, frame, Prompt(1, mask=truth)), truth),
        "box": iou(answer(model, frame, Prompt(1, box=box)), truth),
    }
    points, labels = [innermost(truth)], [1]
    for click in range(3):
        prompt = Prompt(1, points=torch.tensor(points).float(), labels=torch.tensor(labels))
        mask = answer(model, frame, prompt)
        if click in (0, 2):
            found["clicks" if click else "click"] = iou(mask, truth)
        missed, invented = truth & ~mask, mask & ~truth
        places = [innermost(missed), innermost(invented)]
        depth = [_depth(missed), _depth(invented)]
        points.append(places[int(depth[1] > depth[0])])
        labels.append(int(depth[0] >= depth[1]))
    return found


def _depth(region: Tensor) -> float:
    return float(cv2.distanceTransform(np.pad(region.numpy().astype(np.uint8), 1), cv2.DIST_L2, 5).max())


def j_and_f(model: VideoSegmenter, benchmark: VOSBenchmark) -> dict[str, Any]:
    """J&F, J and F of a benchmark, J&F of each video, frames a second."""
    metric, videos, count, start = benchmark.metric(), {}, 0, time.perf_counter()
    for video in benchmark:  # type: ignore[attr-defined]
        measured = benchmark.measure(video, model.track(video))
        metric.extend(**measured)
        videos[video.id] = round(benchmark.item_scores(measured)["J&F"], 4)
        count += len(video)
    rate = round(count / (time.perf_counter() - start), 1)
    return {key: round(float(value), 4) for key, value in metric.compute().items()} | {"fps": rate, "videos": videos}


def measure(model: VideoSegmenter, name: str, most: int, whole: bool) -> dict[str, Any]:
    """All figures of a set."""
    rows = [prompted(model, frame, truth) for frame, truth in frames(name, most)]
    out: dict[str, Any] = {"objects": len(rows)}
    out |= {kind: round(float(np.mean([row[kind] for row in rows])), 4) for kind in KINDS}
    if whole:
        out["tracked"] = {f"{b.name}-{b.split}": j_and_f(model, b) for b in tracked(name)}
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", default="sam2long")
    parser.add_argument("--config", type=Path, nargs="*", default=[])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--sets", nargs="+", default=["davis-held-out", "stills"])
    parser.add_argument("--most", type=int, default=1_000_000, help="videos of a set that prompts are measured on")
    parser.add_argument("--no-tracking", action="store_true", help="leave out J&F")
    parser.add_argument("--output", type=Path, help="write the record here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = build_method(args.method, args.weights, args.config).eval()
    record: dict[str, Any] = {"command": " ".join(sys.argv), "weights": args.weights}
    if model.weights_file is not None:
        record["sha256"] = file_sha256(model.weights_file)
    for name in args.sets:
        record[name] = measure(model, name, args.most, not args.no_tracking)
        print(name, json.dumps(record[name]), flush=True)
    if args.output:
        args.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
