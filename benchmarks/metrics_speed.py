"""What J and F cost, ours against the official tools, in milliseconds per frame and object.

    python benchmarks/metrics_speed.py --davis davis2017-evaluation --vos-benchmark vos-benchmark

Both are folders of unpacked checkouts, with what they import installed (scikit-image, scipy, pandas, tqdm); without one
its column is empty. Every tool gets the same label maps of 480 x 854 pixels and runs the code of its evaluator between
reading files and averaging, in one process on one thread, in turns; the median of the rounds counts, in processor time,
so that other programs on the machine disturb little. Their values must agree. The second table leaves out taking the
objects' masks from the label maps.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.metrics import j_and_f
from common.records.environment import environment
from common.video.masks import masks_from_labels

SIZE = (480, 854)
AREAS = {1: 0.09, 3: 0.04, 10: 0.012}  # share of the image that an object takes, by the number of objects
Measure = Callable[[], np.ndarray]  # J and F, (2, N, T)


def label_maps(objects: int, frames: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Predictions and annotations, uint8 (T, H, W): wavy blobs, and the same a little off and rough at the edge."""
    random = torch.Generator().manual_seed(seed)
    pred, target = torch.zeros(2, frames, *SIZE, dtype=torch.uint8).unbind()
    radius = math.sqrt(AREAS[objects] * SIZE[0] * SIZE[1] / math.pi)
    for t in range(frames):
        for label in range(1, objects + 1):
            centre = torch.tensor(SIZE) * (0.2 + 0.6 * torch.rand(2, generator=random))
            waves = torch.randn(2, 6, generator=random)
            target[t][blob(centre, radius, waves, 0.0)] = label
            shift = 3 * torch.randn(2, generator=random)
            pred[t][blob(centre + shift, 1.02 * radius, waves, 0.02)] = label
    return pred, target


def blob(centre: Tensor, radius: float, waves: Tensor, roughness: float) -> Tensor:
    """A disk whose radius varies with the angle, bool (H, W)."""
    y, x = torch.meshgrid(*(torch.arange(n) - c for n, c in zip(SIZE, centre, strict=True)), indexing="ij")
    angle, k = torch.atan2(y, x), torch.arange(1, 7)
    edge = sum(0.1 * waves[0, i] / k[i] * torch.cos(k[i] * angle + 3 * waves[1, i]) for i in range(6))
    return torch.hypot(y, x) < radius * (1 + edge + roughness * torch.sin(40 * angle))


def ours(pred: Tensor, target: Tensor, objects: int) -> Measure:
    """From label maps; frame by frame, as the suite's evaluation does."""
    ids = range(1, objects + 1)

    def measure() -> np.ndarray:
        frames = [j_and_f(*(masks_from_labels(some, ids) for some in pair)) for pair in zip(pred, target, strict=True)]
        return np.stack([torch.stack(values, 1).numpy() for values in zip(*frames, strict=True)])

    return measure


def ours_from_masks(pred: np.ndarray, target: np.ndarray) -> Measure:
    """From masks (N, T, H, W)."""
    pair = torch.from_numpy(pred), torch.from_numpy(target)
    return lambda: np.stack([values.numpy() for values in j_and_f(*pair)])


def davis(pred: Tensor, target: Tensor) -> Measure:
    """davis2017-evaluation: its reader of label maps with the files left out, then its evaluation of a sequence."""
    from davis2017.evaluation import DAVISEvaluation
    from davis2017.results import Results

    class InMemory(Results):
        def _read_mask(self, sequence: np.ndarray, frame_id: int) -> np.ndarray:
            return sequence[frame_id]

    def measure() -> np.ndarray:
        masks = [InMemory("").read_masks(some.numpy(), range(len(some))) for some in (target, pred)]
        return np.stack(DAVISEvaluation._evaluate_semisupervised(*masks, None, ("J", "F")))

    return measure


def davis_from_masks(pred: np.ndarray, target: np.ndarray) -> Measure:
    """Its measures of masks (N, T, H, W)."""
    from davis2017.metrics import db_eval_boundary, db_eval_iou

    pairs = list(zip(target, pred, strict=True))
    return lambda: np.array([[measure(*pair) for pair in pairs] for measure in (db_eval_iou, db_eval_boundary)])


def vos_benchmark(pred: Tensor, target: Tensor) -> Measure:
    """vos-benchmark: its evaluator of a video, fed frame by frame."""
    from vos_benchmark.evaluator import Evaluator

    def measure() -> np.ndarray:
        evaluator = Evaluator()
        for frame in zip(pred.numpy(), target.numpy(), strict=True):
            evaluator.feed_frame(*frame)
        return np.array([[by_id[i] for i in sorted(by_id)] for by_id in (evaluator.object_iou, evaluator.boundary_f)])

    return measure


def milliseconds(tools: dict[str, Measure], rounds: int) -> dict[str, float]:
    """Median processor time of each tool per frame and object; all tools take their turn in every round.

    Raises:
        SystemExit: their values differ.
    """
    times: dict[str, list[float]] = {name: [] for name in tools}
    for _ in range(rounds + 1):
        values = {}
        for name, measure in tools.items():
            start = time.process_time()
            values[name] = measure()
            times[name].append(time.process_time() - start)
        for name, found in values.items():
            if not np.allclose(found, values["ours"], rtol=0, atol=1e-9):
                sys.exit(f"{name} and ours differ by {abs(found - values['ours']).max()}")
    pairs = values["ours"][0].size
    return {name: 1000 * statistics.median(taken[1:]) / pairs for name, taken in times.items()}


def row(objects: int, taken: dict[str, float]) -> str:
    """A row of the table."""
    cells = [str(objects), f"{taken['ours']:.3f}"]
    for name in ("davis2017-evaluation", "vos-benchmark"):
        cells += [f"{taken[name]:.3f}", f"{taken[name] / taken['ours']:.1f}"] if name in taken else ["", ""]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print both tables as markdown, then the machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, help="checkout of davis2017-evaluation")
    parser.add_argument("--vos-benchmark", type=Path, help="checkout of vos-benchmark")
    parser.add_argument("--frames", type=int, default=8, help="frames of each video")
    parser.add_argument(
        "--rounds", type=int, default=9, help="times that each tool is timed, after one more to warm up"
    )
    args = parser.parse_args()
    sys.path[:0] = [str(path) for path in (args.davis, args.vos_benchmark) if path]
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    tables: dict[str, list[str]] = {"from label maps": [], "from masks": []}
    for objects in AREAS:
        pred, target = label_maps(objects, args.frames)
        tools = {"ours": ours(pred, target, objects)}
        masks = [np.stack([some.numpy() == i for i in range(1, objects + 1)]) for some in (pred, target)]
        from_masks = {"ours": ours_from_masks(*masks)}
        if args.davis:
            tools["davis2017-evaluation"] = davis(pred, target)
            from_masks["davis2017-evaluation"] = davis_from_masks(*masks)
        if args.vos_benchmark:
            tools["vos-benchmark"] = vos_benchmark(pred, target)
        tables["from label maps"].append(row(objects, milliseconds(tools, args.rounds)))
        tables["from masks"].append(row(objects, milliseconds(from_masks, args.rounds)))
    for title, rows in tables.items():
        print(f"\nJ and F {title}, ms per frame and object\n")
        print("| objects | ours | davis2017-evaluation | ratio | vos-benchmark | ratio |")
        print("| ---: | ---: | ---: | ---: | ---: | ---: |")
        print("\n".join(rows))
    where = environment()
    versions = ", ".join(f"{name} {where['versions'][name]}" for name in ("python", "torch", "numpy"))
    print(f"\n{where['machine']['cpu']}, one thread; {versions}; commit {where['commit'][:12]}")


if __name__ == "__main__":
    main()
