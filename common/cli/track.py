"""The verb ``track``: track targets in your own video."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from common.cli.build import build_method, method_folders, track_defaults
from common.cli.methods import ROOT
from common.configs import load_config
from common.errors import InputError

OUTPUT = Path("runs/track")
RESEARCH = ROOT / "weights" / "research"  # weights that saw data sets with restricted terms
PROMPTS = ("mask", "box", "point", "text", "query", "query_mask", "vocabulary")
OUTPUTS = {"overlap": "overlap", "logits": "keep_logits", "candidates": "keep_candidates"}
KEY = ("video", "method", "config", *PROMPTS, "everything", "raw", "reverse", "both", *OUTPUTS)
EXAMPLES = """examples:
  python cli.py track clip.mp4 --box 100,50,220,190
  python cli.py track frames/ --point 1:120,80 --point 1:30,40,- --point 2:200,90@25
  python cli.py track clip.mp4 --mask first.png --method sslvos
  python cli.py track clip.mp4 --query cup.jpg --query-mask cup.png --method vqsam
  ffmpeg -i clip.mkv -f mjpeg - | python cli.py track - --box 100,50,220,190
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Track the targets and write masks and overlays.

    Args:
        argv: arguments after the verb; default ``sys.argv[1:]``.

    Returns:
        1 if the run was interrupted, else 0.

    Raises:
        InputError: see ``common.inference.resumable``, ``common.cli.targets`` and ``common.cli.build``.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(argv)
    import torch

    from common.cli.targets import prompts
    from common.inference.playback import Direction, first_frames
    from common.inference.resumable import Tracking
    from common.precision import autocast

    video = _open(args.video, args.raw, args.fps, args.gaps)
    asked = [getattr(args, name) for name in PROMPTS]
    if any(asked) or args.everything is None:
        video.prompts = prompts(*asked)
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    defaults = track_defaults(args.method)
    settings = defaults.settings if args.weights not in (None, "nano") and not args.config else {}
    configs, weights = (args.config, args.weights) if args.config or args.weights else defaults[:2]
    precision = args.precision or _precision(args.config)
    computing = autocast(precision, device)
    segmenter = build_method(args.method, weights, configs, settings).to(device)
    _report_weights(args.method, segmenter)
    folder = args.output or OUTPUT / f"{video.id}-{args.method}"
    method = segmenter if args.everything is None else _everything(segmenter, args.everything, args.method)
    direction: Direction = "both" if args.both else "backward" if args.reverse else "forward"
    if args.everything is not None and args.both and (args.everything or len(set(first_frames(video).values())) > 1):
        raise InputError("--everything with --both: what is found has one start; leave out K, and prompt on one frame")
    asked = [attribute for name, attribute in OUTPUTS.items() if getattr(args, name)]
    tracking = Tracking(method, video, folder, _key(args, segmenter, precision), direction, asked)
    with _progress(video, device) as advance, computing:
        for taken in tracking.run(args.resume):
            advance(taken)
    if not tracking.finished:
        print(
            f"interrupted; the frames so far are in {folder}. To continue, repeat the command with --resume",
            file=sys.stderr,
        )
        return 1
    if json.loads((folder / "occurrences.json").read_text(encoding="utf-8")) == {}:
        print("nothing was found: every mask is empty; check the prompts and the weights", file=sys.stderr)
    print(f"{folder}/overlay.mp4  contact.png  masks.json  masks/" + "  logits/" * args.logits)
    return 0


def _everything(segmenter: Any, every: int, name: str) -> Any:
    """Return the method that tracks everything which the segmenter finds, on every K-th frame."""
    from common.inference.everything import Everything

    if every < 0:
        raise InputError(f"--everything {every}: give a number of frames, or none for the first frame only")
    if not hasattr(segmenter, "propose_masks"):
        raise InputError(f"--everything: {name} finds no masks by itself; use --method sam2long")
    return Everything(segmenter, every)


def _precision(configs: Sequence[Path]) -> str:
    """Return ``trainer.precision`` of the last config that has one, else ``32-true``."""
    found = [(load_config(config).get("trainer") or {}).get("precision") for config in configs]
    return ["32-true", *(str(precision) for precision in found if precision is not None)][-1]


def _key(args: argparse.Namespace, segmenter: Any, precision: str) -> str:
    """Return a digest of the arguments, the precision and all weights, including those of frozen networks."""
    from common.checkpoints import state_digest
    from common.files import digest, file_sha256

    weights = [state_digest(segmenter), *map(file_sha256, segmenter.borrowed_files)]
    return digest({name: getattr(args, name) for name in KEY} | {"precision": precision}, weights)


def _open(source: str, raw: str | None, fps: float | None, gaps: bool) -> Any:
    from common.video import open_video
    from common.video.streams import camera_frames, piped_frames, raw_frames

    if source.startswith("camera:"):
        number = source.removeprefix("camera:")
        if not number.isdigit():
            raise InputError(f"{source}: write camera:0 for the first camera")
        return open_video(camera_frames(int(number)), f"camera{number}", fps)
    if source == "-":
        pipe = sys.stdin.buffer
        return open_video(raw_frames(pipe, _size(raw)) if raw else piped_frames(pipe), "pipe", fps)
    return open_video(source, fps=fps, gaps=gaps)


def _size(raw: str) -> tuple[int, int]:
    width, _, height = raw.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise InputError(f"--raw {raw}: write WIDTHxHEIGHT, as in 640x480")
    return int(height), int(width)


def _report_weights(method: str, segmenter: Any) -> None:
    """Print one line about weights of this repository: what they were trained on, and what they are good for."""
    if segmenter.weights_file is not None and RESEARCH in segmenter.weights_file.resolve().parents:
        about = (
            f"{segmenter.weights_file.name}, a small network for research use only: it was trained on DAVIS 2016 train "
            "(CC BY-NC 4.0) and other research data"
        )
    elif segmenter.weights_note == "nano":
        about = "nano, small and trained on generated clips, mostly from masks: a box or a click may find nothing"
    else:
        return
    print(f"weights: {about}; for published ones see: python cli.py weights {method}", file=sys.stderr)


@contextmanager
def _progress(video: Any, device: Any) -> Iterator[Any]:
    """Show a bar with frames per second and memory on a terminal, else print one line at the end."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from common.evaluation.profiling import peak_memory_mb

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    console, begun, first = Console(stderr=True), perf_counter(), 0
    rate = ""
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(video.id, total=video.length, rate="")

        def advance(taken: int) -> None:
            nonlocal first, rate
            first = first or taken - 1
            speed = (taken - first) / (perf_counter() - begun)
            rate = f"{speed:.1f} frames/s, {peak_memory_mb(device):.0f} MB"
            bar.update(task, completed=taken, rate=rate)

        yield advance
    if not console.is_terminal:
        print(f"{video.id}: {rate}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cli.py track",
        description="Track targets in your own video.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("video", metavar="VIDEO", help="a file, a folder of images, camera:0, or - for a pipe")
    add("--method", default="sam2long", choices=list(method_folders()), help="default: %(default)s")
    add(
        "--weights",
        metavar="WEIGHTS",
        help="file or folder, or a published network as sam2.1-large (default: small weights of this repository)",
    )
    add(
        "--config", action="append", type=Path, default=[], metavar="FILE", help="YAML file of settings (default: nano)"
    )
    many: dict[str, Any] = {"action": "append", "default": [], "metavar": "..."}
    add("--mask", **many, help="[ID:]FILE[@FRAME], a palette PNG; without an id, every label in it is a target")
    add("--box", **many, help="[ID:]x0,y0,x1,y1[@FRAME] in pixels")
    add("--point", **many, help="[ID:]x,y[,-][@FRAME]; - marks a negative click")
    add("--text", **many, help="[ID:]referring expression")
    add("--query", **many, help="[ID:]FILE, an image of the target from outside the video")
    add("--query-mask", **many, help="FILE, mask of the target on that image")
    add("--vocabulary", metavar="NAMES", help="category names separated by commas: find and track their instances")
    add(
        "--everything",
        nargs="?",
        const=0,
        type=int,
        metavar="K",
        help="track everything that is found on the first frame, with K also on every K-th (sam2long; 254 targets)",
    )
    add("--output", type=Path, metavar="DIR", help=f"default: below {OUTPUT}")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--reverse", action="store_true", help="track from the last prompted frame back to the first")
    ways.add_argument("--both", action="store_true", help="track in both directions, each target from its first prompt")
    add("--overlap", action="store_true", help="masks may overlap (in masks.json; a PNG shows the smallest)")
    add("--candidates", action="store_true", help="write the candidate masks of a single click into masks.json")
    add("--logits", action="store_true", help="write the mask logits of every frame into logits/<frame>.npz")
    add("--resume", action="store_true", help="continue this command where it was interrupted")
    add("--fps", type=float, help="frames per second of the overlay, where the video does not have it")
    add("--gaps", action="store_true", help="allow gaps in the numbering of a folder's images")
    add("--raw", metavar="WIDTHxHEIGHT", help="size of raw RGB frames on the pipe")
    add("--device", help="default: cuda where available")
    add(
        "--precision", metavar="PRECISION", help="32-true, bf16-mixed or 16-mixed (default: the config's, else 32-true)"
    )
    return parser
