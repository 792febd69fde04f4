"""The verb ``speed``: time and memory of a frame, by method, size of the video and number of targets."""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.cli.build import build_method, method_folders
from common.errors import InputError

if TYPE_CHECKING:
    import torch

    from common.video import Video

EXAMPLES = """examples:
  python cli.py speed sam2long sslvos --size 480x854 --targets 1 5
  python cli.py speed sam2long --config configs/sam2long/paper_tiny.yaml --weights random --device cuda
  python cli.py speed sam2long --config configs/sam2long/paper_tiny.yaml --weights random --against sam2

A method without a config is its nano network. Times are of the second half of a generated video, in milliseconds:
reading a frame from a JPEG, the method, and writing its masks as a PNG. The parts of the method are timed in a second
pass, which waits for the device between them."""
FULL = 20  # frames after which the memory of most methods is full


def main(argv: Sequence[str] | None = None) -> int:
    """Measure methods and print a table.

    Args:
        argv: arguments after the verb.

    Raises:
        InputError: an unknown method, a size that cannot be read, a package that is missing, or see ``build_method``.
    """
    args = _parser().parse_args(argv)
    import torch

    from common.precision import autocast
    from common.records.environment import environment

    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    sizes = [_size(text) for text in args.size]
    rows: list[dict[str, Any]] = []
    print(HEAD)
    for name in args.methods:
        segmenter = build_method(name, args.weights, args.config).eval().to(device)
        if args.compile:
            network = getattr(segmenter, "network", None)
            if not hasattr(network, "compiled"):
                raise InputError(f"--compile: {name} has no steps that can be compiled")
            network.compiled = True  # type: ignore[union-attr]
        row = f"{segmenter.method_name}, {segmenter.variant}" if segmenter.variant else segmenter.method_name
        for size in sizes:
            for targets in args.targets:
                video = _video(size, args.frames, targets)
                with autocast(args.precision, device):
                    measured = measure(lambda: segmenter.session(args.frames), video, device)  # noqa: B023
                rows.append({"method": row, "size": f"{size[0]}x{size[1]}", "targets": targets} | measured)
                print(_line(rows[-1]), flush=True)
        for package in args.against:
            for size in sizes:
                with autocast(args.precision, device):
                    measured = sam2_package(
                        str(getattr(segmenter.network, "size", name)), _video(size, args.frames, 1), device
                    )
                rows.append({"method": f"{package} package", "size": f"{size[0]}x{size[1]}", "targets": 1} | measured)
                print(_line(rows[-1]), flush=True)
    if args.output:
        about = {"precision": args.precision, "device": str(device), "compiled": args.compile, "frames": args.frames}
        args.output.parent.mkdir(parents=True, exist_ok=True)
        with args.output.open("a", encoding="utf-8") as file:
            for measured in rows:
                file.write(json.dumps(measured | about | environment(), ensure_ascii=False) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cli.py speed",
        description="Time and memory of a frame.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("methods", nargs="+", metavar="METHOD", choices=tuple(method_folders()), help="short names")
    parser.add_argument("--config", type=Path, action="append", default=[], help="of the verbs fit and test")
    parser.add_argument("--weights", help="file, nano, or random")
    parser.add_argument("--size", nargs="+", default=["480x854"], metavar="HxW", help="of the video (480x854)")
    parser.add_argument("--targets", nargs="+", type=int, default=[1], help="numbers of targets (1)")
    parser.add_argument("--frames", type=int, default=2 * FULL, help=f"of the video ({2 * FULL})")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed", "16-mixed"), default="32-true")
    parser.add_argument("--compile", action="store_true", help="torch.compile the steps of the network")
    parser.add_argument("--device", help="default: cuda where there is one")
    parser.add_argument("--against", nargs="+", choices=("sam2",), default=[], help="the package's video predictor too")
    parser.add_argument("--output", type=Path, help="add the rows to this JSON lines file")
    return parser


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise InputError(f"--size {text}: give height and width, as in 480x854")
    return int(height), int(width)


def _video(size: tuple[int, int], frames: int, targets: int) -> Video:
    """Return a generated video whose targets are given on the first frame."""
    from common.synthetic import SyntheticClips

    if frames < 4 or targets < 1:
        raise InputError(f"--frames {frames} --targets {targets}: give at least 4 frames and 1 target")
    video = SyntheticClips("easy", length=1, frames=frames, size=size, seed=3, objects=targets)[0]
    return replace(video, prompts=tuple(replace(prompt, frame=0) for prompt in video.prompts))


def measure(open_session: Any, video: Video, device: torch.device) -> dict[str, Any]:
    """Measure a method on a video.

    Args:
        open_session: opens a new session.
        video: of known length.
        device: of the method.

    Returns:
        Over the second half of the video, in ms: medians of ``read``, of the method (``ms``) and of ``write``;
        ``mean``, ``p10`` and ``p90`` of the method; its ``frames/s`` by the mean, since a method may answer several
        frames at once; the means of its ``parts``; ``peak MB`` of the device or of the process.
    """
    import torch

    from common.nn.timing import PartClock, measured_by
    from common.video import labels_from_masks, open_video, write_label_map

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    half = len(video) // 2
    times: dict[str, list[float]] = {"read": [], "ms": [], "write": []}
    with _as_jpegs(video) as folder, torch.inference_mode():
        marks = [time.perf_counter()]
        session, prompts = open_session(), video.prompts
        for index, frame in enumerate(open_video(folder / "frames")):
            marks = [marks[-1], time.perf_counter()]
            answers = session.step(frame.to(device), prompts if index == 0 else ())
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            marks.append(time.perf_counter())
            for answer in answers:
                labels = labels_from_masks(answer.masks, answer.targets)
                write_label_map(folder / f"{answer.frame}.png", labels.cpu())
            marks.append(time.perf_counter())
            for name, (before, after) in zip(times, pairwise(marks), strict=True):
                times[name].append(1e3 * (after - before))
        session.finish()
        clock, session = PartClock(device), open_session()
        for index, frame in enumerate(video):
            if index == half:
                clock.seconds.clear()
            with measured_by(clock):
                session.step(frame.to(device), prompts if index == 0 else ())
    late = {name: values[half:] for name, values in times.items()}
    parts = {name: round(1e3 * value / (len(video) - half), 2) for name, value in clock.seconds.items()}
    ends = {name: round(statistics.median(late[name]), 2) for name in ("read", "write")}
    return spread(late["ms"], device) | ends | {"parts": parts}


def spread(times: Sequence[float], device: torch.device) -> dict[str, float]:
    """Return the median (``ms``), ``mean``, ``p10`` and ``p90`` of times, ``frames/s`` by the mean, and ``peak MB``.

    Args:
        times: of frames, in ms.
        device: of the method.
    """
    from common.evaluation.profiling import peak_memory_mb

    ordered, mean = sorted(times), statistics.mean(times)
    return {
        "ms": round(statistics.median(ordered), 2),
        "mean": round(mean, 2),
        "p10": round(ordered[len(ordered) // 10], 2),
        "p90": round(ordered[9 * len(ordered) // 10], 2),
        "frames/s": round(1e3 / mean, 1),
        "peak MB": round(peak_memory_mb(device)),
    }


@contextmanager
def _as_jpegs(video: Video) -> Iterator[Path]:
    """Write the frames of a video into a temporary folder, below ``frames``."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as name:
        frames = Path(name) / "frames"
        frames.mkdir()
        for index, frame in enumerate(video):
            Image.fromarray(frame.numpy()).save(frames / f"{index:05d}.jpg", quality=95)
        yield Path(name)


def sam2_package(size: str, video: Video, device: torch.device) -> dict[str, Any]:
    """Measure the video predictor of the ``sam2`` package with random weights, without post-processing.

    Args:
        size: of the model.
        video: its first prompt is a mask on the first frame.
        device: of the predictor.

    Raises:
        InputError: the package is not installed, or has no model of the size.
    """
    import torch

    letters = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}
    if size not in letters:
        raise InputError(f"--against sam2: the package has no model of size {size}; it has {', '.join(letters)}")
    try:
        from sam2.build_sam import build_sam2_video_predictor
    except ImportError:
        raise InputError("--against sam2: the package is not installed; pip install 'sam2>=1.1,<2'") from None
    config = f"configs/sam2.1/sam2.1_hiera_{letters[size]}.yaml"
    predictor = build_sam2_video_predictor(config, None, device=device.type, apply_postprocessing=False)
    encode, marks = predictor.forward_image, []

    def marked(images: torch.Tensor) -> Any:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        marks.append(time.perf_counter())
        return encode(images)

    predictor.forward_image = marked
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with _as_jpegs(video) as folder, torch.inference_mode():
        state = predictor.init_state(video_path=str(folder / "frames"))
        mask = video.prompts[0].mask
        assert mask is not None
        predictor.add_new_mask(state, 0, 1, mask.numpy())
        for _ in predictor.propagate_in_video(state):
            pass
    del predictor.forward_image  # the predictor would hold itself
    return spread([1e3 * (after - before) for before, after in pairwise(marks[len(marks) // 2 :])], device)


HEAD = (
    f"{'frames/s':>8}{'ms':>9}{'p10':>9}{'p90':>9}{'read':>7}{'write':>7}{'MB':>7}{'size':>11}{'targets':>9}  method: "
    "parts in ms"
)


def _line(row: dict[str, Any]) -> str:
    parts = ", ".join(f"{name} {value}" for name, value in row.get("parts", {}).items())
    return (
        f"{row['frames/s']:>8}{row['ms']:>9}{row['p10']:>9}{row['p90']:>9}{row.get('read', ''):>7}"
        f"{row.get('write', ''):>7}{row['peak MB']:>7}{row['size']:>11}{row['targets']:>9}  {row['method']}: {parts}"
    )
