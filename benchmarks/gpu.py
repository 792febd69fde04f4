"""What a GPU is asked: do all methods answer as on the CPU, and how fast are they. One JSON record.

    make gpu                        # on the first CUDA device
    make gpu DEVICE=cpu             # the same script without one, at small sizes

A part that fails is recorded with its error, the others go on. Parts: ``equal`` (answers of every method on the device
against those on the CPU, float32 and bf16), ``graphs`` (SAM 2 with CUDA graphs against without), ``sync``
(a tracked frame of SAM 2 waits for the device once), ``metrics``, ``sam2`` (against the sam2 package, where it is
installed), ``methods`` (the networks of the papers), ``compiled``. Weights are random where only time is measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from common.cli.build import build_method
from common.cli.speed import sam2_package, spread
from common.inference.playback import play, prompts_by_frame
from common.inference.session import Session
from common.metrics import JAndF
from common.nn import graphs
from common.nn.sam2 import SAM2
from common.records.environment import environment
from common.segmenter import VideoSegmenter
from common.synthetic import SyntheticClips
from common.video import Video
from methods.sam2long.picks import TreeSettings
from methods.sam2long.session import SAM2LongSession

ROOT = Path(__file__).resolve().parents[1]
NANO = ("sam2long", "hqsmem", "sslvos", "univs", "vqsam")
PAPER = {
    "sslvos": ["configs/sslvos/paper.yaml"],
    "univs": ["configs/univs/paper.yaml"],
    "hqsmem": ["configs/hqsmem/paper_vots.yaml"],
    "vqsam": ["configs/vqsam/paper.yaml"],
}
PLAIN = TreeSettings(pathways=1, selection=False, modulation=None)
APART = TreeSettings(pathways=3, selection=False, confidence=1e9)  # no frame is certain: three distinct pathways


def clip(preset: str, frames: int, size: tuple[int, int], targets: int) -> Video:
    """A generated video."""
    return SyntheticClips(preset, length=1, frames=frames, size=size, seed=3, objects=targets)[0]


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """The context of a precision."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def masks(model: VideoSegmenter, video: Video, device: torch.device, precision: str = "float32") -> Tensor:
    """All masks of a video, bool (T, N, H, W), on the CPU."""
    with torch.inference_mode(), autocast(device, precision):
        answers = play(model.to(device).session(len(video)), video, prompts_by_frame(video), device)
        return torch.stack([answer.masks.cpu() for answer in answers])


def prompted(name: str, video: Video) -> Video:
    """The video with the prompts that a method takes."""
    if name == "vqsam":
        from common.synthetic.queries import SyntheticQueries

        return SyntheticQueries("query", length=1, frames=len(video), size=(128, 128), seed=3)[0]
    return video


def equal(device: torch.device, small: bool) -> Iterator[tuple[str, Any]]:
    """Answers of the nano methods on the device against those on the CPU."""
    for name in NANO:
        model, video = build_method(name, "nano", []).eval(), prompted(name, clip("easy", 16, (128, 128), 2))
        expected = masks(model, video, torch.device("cpu"))
        rows = {}
        for precision in ("float32", "bf16"):
            found = masks(model, video, device, precision)
            overlap = (found & expected).sum() / (found | expected).sum().clamp(min=1)
            rows[precision] = {"pixels that differ": int((found != expected).sum()), "IoU": round(float(overlap), 5)}
        yield name, rows | {"pixels": int(expected.sum())}


def equal_graphs(device: torch.device, small: bool) -> Iterator[tuple[str, Any]]:
    """SAM 2 with and without CUDA graphs; pathways apart, and targets that come and go."""
    for name, settings in (("SAM 2", PLAIN), ("SAM2Long, pathways apart", APART)):
        for precision in ("float32", "bf16"):
            torch.manual_seed(0)
            model = SAM2("nano").eval().to(device)
            video = clip("easy", 24, (128, 128), 3)
            logits = []
            for context in (graphs.without_graphs, nullcontext):
                with torch.inference_mode(), autocast(device, precision), context():
                    session = SAM2LongSession(model, settings, max_lag=0, length=len(video))
                    session.keep_logits = True
                    answers = []
                    for index, frame in enumerate(video):
                        if index == 12:
                            session.drop(2)
                        answers += session.step(frame.to(device), prompts_by_frame(video).get(index, ()))
                    logits.append([answer.logits for answer in answers])
            differences = [float((a - b).abs().max()) for a, b in zip(*logits, strict=True)]
            captured = graphs._graphs.get(model)
            row = {"largest difference of logits": max(differences), "of frames": [round(d, 6) for d in differences]}
            yield f"{name}, {precision}", row | {"graphs": len(captured.captured) if captured else 0}


def sync(device: torch.device, small: bool) -> Iterator[tuple[str, Any]]:
    """A tracked frame waits for the device only where ``to_host`` does."""
    for name, settings in (("SAM 2", PLAIN), ("SAM2Long, pathways apart", APART)):
        model, video = SAM2("nano").eval().to(device), clip("easy", 30, (128, 128), 2)
        session = SAM2LongSession(model, settings, max_lag=0, length=len(video))
        frames = [frame.to(device) for frame in video]
        with torch.inference_mode():
            for index, frame in enumerate(frames):
                if index == 24 and device.type == "cuda":
                    torch.cuda.synchronize()
                    torch.cuda.set_sync_debug_mode("error")
                try:
                    session.step(frame, prompts_by_frame(video).get(index, ()))
                finally:
                    if device.type == "cuda":
                        torch.cuda.set_sync_debug_mode("default")
        yield name, "one read a frame"


def metrics(device: torch.device, small: bool) -> Iterator[tuple[str, Any]]:
    """J&F on the device against the CPU."""
    video = clip("occlusion", 16, (240, 427), 3)
    assert video.truth is not None
    truth = torch.stack([torch.as_tensor(video.truth[t]) for t in range(16)])
    values = []
    for place in (torch.device("cpu"), device):
        metric = JAndF().to(place)
        metric.update(truth.roll(2, -1).to(place), truth.to(place))
        values.append({key: float(value) for key, value in metric.compute().items()})
    yield "J&F", {"difference": max(abs(values[0][key] - values[1][key]) for key in values[0])}


def timed(session: Session, video: Video, device: torch.device, precision: str) -> dict[str, Any]:
    """Milliseconds a frame once the memory is full: median, mean, 10th and 90th percentile; peak memory."""
    frames, prompts = [frame.to(device) for frame in video], prompts_by_frame(video)
    marks = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with torch.inference_mode(), autocast(device, precision):
        for index, frame in enumerate(frames):
            session.step(frame, prompts.get(index, ()))
            if device.type == "cuda":
                torch.cuda.synchronize()
            marks.append(time.perf_counter())
    return spread([1e3 * (after - before) for before, after in pairwise(marks[len(marks) // 2 - 1 :])], device)


def sam2(device: torch.device, small: bool) -> Iterator[tuple[str, Any]]:
    """SAM 2 and SAM2Long in bf16 against the sam2 package."""
    frames, side = (16, 64) if small else (56, 1024)
    for size in ("nano",) if small else ("tiny", "large"):
        video = clip("easy", frames, (side, side), 1)
        with contained() as result, autocast(device, "bf16"):
            result["row"] = sam2_package(size, video, device)
        yield f"{size}: sam2 package", result["row"]
        torch.manual_seed(0)
        model = SAM2(size, image_size=side).eval().to(device)
        cases = {
            "SAM 2": (PLAIN, 1),
            "P = 1": (TreeSettings(pathways=1, selection=False), 1),
            "P = 3, apart": (APART, 1),
        }
        if size != "large":
            cases |= {"SAM 2, ten targets": (PLAIN, 10)}
        for name, (settings, targets) in cases.items():
            several = video if targets == 1 else clip("easy", frames, (side, side), targets)
            with contained() as result:
                session = SAM2LongSession(model, settings, max_lag=0, length=frames)
                result["row"] = timed(session, several, device, "bf16")
            yield f"{size}: {name}", result["row"]
            if name == "SAM 2":
                with contained() as result, graphs.without_graphs():
                    session = SAM2LongSession(model, settings, max_lag=0, length=frames)
                    result["row"] = timed(session, several, device, "bf16")
                yield f"{size}: {name}, without graphs", result["row"]
        del model


def methods(device: torch.device, small: bool) -> Iterator[tuple[str, Any]]:
    """The networks of the papers on 480p, random weights."""
    size, frames = ((64, 96), 10) if small else ((480, 854), 28)
    for name, configs in PAPER.items():
        with contained() as result:
            model = (
                build_method(name, "random", [] if small else [ROOT / config for config in configs]).eval().to(device)
            )
        if result:
            yield name, result["row"]
            continue
        for targets in (1,) if name == "vqsam" else (1, 10):
            video = prompted(name, clip("easy", frames, size, targets))
            for precision in ("float32", "bf16"):
                with contained() as result:
                    result["row"] = timed(model.session(len(video)), video, device, precision)
                yield f"{name}, {targets} targets, {precision}", result["row"]


def compiled(device: torch.device, small: bool) -> Iterator[tuple[str, Any]]:
    """SAM 2 compiled, with CUDA graphs where there is CUDA, against itself without."""
    size, side, frames = ("nano", 64, 16) if small else ("tiny", 1024, 56)
    torch.manual_seed(0)
    model, video = SAM2(size, image_size=side).eval().to(device), clip("easy", frames, (side, side), 1)
    expected = None
    for compile in (False, True):
        model.compiled = compile
        session = SAM2LongSession(model, PLAIN, max_lag=0, length=frames)
        session.keep_logits = True
        begin = time.perf_counter()
        with torch.inference_mode(), autocast(device, "bf16"):
            logits = [a.logits.cpu() for a in play(session, video, prompts_by_frame(video), device)]
        first = round(time.perf_counter() - begin, 1)
        row = timed(SAM2LongSession(model, PLAIN, max_lag=0, length=frames), video, device, "bf16")
        if expected is not None:
            row["largest difference of logits"] = max(
                float((a - b).abs().max()) for a, b in zip(logits, expected, strict=True)
            )
        expected = logits
        yield f"{size}, {'compiled' if compile else 'eager'}", row | {"seconds of the first video": first}


@contextmanager
def contained() -> Iterator[dict[str, Any]]:
    """Catch an error and keep its line as ``row``."""
    result: dict[str, Any] = {}
    try:
        yield result
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        result["row"] = f"{type(error).__name__}: {str(error)[:300]} ({Path(place.filename).name}:{place.lineno})"


PARTS: dict[str, Callable[[torch.device, bool], Iterator[tuple[str, Any]]]] = {
    "equal": equal,
    "graphs": equal_graphs,
    "sync": sync,
    "metrics": metrics,
    "sam2": sam2,
    "compiled": compiled,
    "methods": methods,
}


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument("--output", type=Path, default=Path("runs/gpu.json"))
    args = parser.parse_args()
    device = torch.device(args.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    record: dict[str, Any] = {"device": name, "environment": environment()}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    for part in args.parts:
        begin, rows = time.perf_counter(), {}
        with contained() as failed:
            for row, value in PARTS[part](device, device.type == "cpu"):
                rows[row] = value
                print(f"{part} | {row} | {json.dumps(value)}", flush=True)
                record[part] = rows
                args.output.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if failed:
            rows["error"] = failed["row"]
            print(f"{part} | error | {failed['row']}", flush=True)
        record[part] = rows | {"seconds": round(time.perf_counter() - begin, 1)}
        args.output.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
