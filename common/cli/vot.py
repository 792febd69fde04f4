"""The verb ``vot``: a method as a tracker inside the VOT toolkit, which starts it and speaks TraX to it."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.cli.build import build_method, method_folders
from common.cli.methods import ROOT
from common.errors import InputError

if TYPE_CHECKING:
    import torch

    from common.segmenter import VideoSegmenter


def main(argv: Sequence[str] | None = None) -> int:
    """Follow what the toolkit gives until it says that it is done.

    Raises:
        InputError: TraX is not installed, or see ``common.cli.build`` and ``serve``.
    """
    args = _parser().parse_args(argv)
    if args.ini:
        print(ini_lines(args.method, args.weights, args.config))
        return 0
    trax = _trax()
    import torch

    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    segmenter = build_method(args.method, args.weights, args.config)
    if segmenter.needs_weights and segmenter.weights is None:
        raise InputError(f"{args.method} has no weights, as the configs say none: give --weights")
    serve(segmenter.to(device), device, trax)
    return 0


def serve(segmenter: VideoSegmenter, device: torch.device, trax: Any) -> None:
    """Answer the toolkit: every frame has a mask for each object, in the order in which they came; empty = absent.

    Args:
        segmenter: takes masks, and answers a frame at once.
        device: where it lies.
        trax: the module of that name, or what looks like it.

    Raises:
        InputError: a frame that cannot be read, an object that is no mask, a method that answers later.
    """
    import numpy as np

    from common.video import Prompt, read_image

    session, targets = segmenter.eval().session(), 0
    formats = [trax.Region.MASK], [trax.Image.PATH]
    with trax.Server(*formats, ["color"], tracker_name=segmenter.method_name, multiobject=True) as server:
        while (request := server.wait()).type in ("initialize", "frame"):
            if request.type == "initialize":
                session, targets = segmenter.session(), 0
            path = next(iter(request.image.values())).path()
            frame = read_image(path)
            given = [region for region, _ in request.objects or ()]
            prompts = [
                Prompt(target, mask=_mask(region, (frame.shape[0], frame.shape[1]), trax, path))
                for target, region in enumerate(given, start=targets + 1)
            ]
            targets += len(given)
            answers = session.step(frame.to(device), prompts)
            if len(answers) != 1:
                raise InputError(f"{segmenter.method_name} answers later than frames come; the toolkit waits for each")
            masks = answers[0].select(tuple(range(1, targets + 1))).cpu().numpy().astype(np.uint8)
            server.status([(trax.Mask.create(np.ascontiguousarray(mask)), {}) for mask in masks])


def ini_lines(method: str, weights: str | None = None, configs: Iterable[Path] = ()) -> str:
    """The section of the toolkit's ``trackers.ini`` that starts this method, with absolute paths."""
    command = [sys.executable, str(ROOT / "cli.py"), "vot", "--method", method]
    if weights is not None:
        command += ["--weights", str(Path(weights).resolve()) if Path(weights).exists() else weights]
    for config in configs:
        command += ["--config", str(config.resolve())]
    lines = ["protocol = trax", f"command = {shlex.join(command)}", "timeout = 300"]
    return "\n".join([f"[vidseg_{method}]", f"label = {method}", *lines])


def _mask(region: Any, size: tuple[int, int], trax: Any, path: str) -> torch.Tensor:
    """An object's mask bool (H, W); the toolkit cuts off what is empty around it."""
    import torch

    if region.type != trax.Region.MASK:
        raise InputError(f"{path}: an object is given as a {region.type}; use a stack of the toolkit that gives masks")
    part = torch.from_numpy(region.array(True)).bool()[: size[0], : size[1]]
    mask = torch.zeros(size, dtype=torch.bool)
    mask[: part.shape[0], : part.shape[1]] = part
    return mask


def _trax() -> Any:
    try:
        import trax
    except ImportError:
        raise InputError("the package vot-trax is not here; run: pip install 'vot-trax>=4' (or .[vot])") from None
    return trax


def _parser() -> argparse.ArgumentParser:
    example = "In the toolkit's workspace: cli.py vot --method hqsmem --ini >> trackers.ini; vot evaluate vidseg_hqsmem"
    parser = argparse.ArgumentParser(prog="cli.py vot", description="Be a tracker of the VOT toolkit.", epilog=example)
    parser.add_argument("--method", required=True, choices=list(method_folders()))
    parser.add_argument("--weights", metavar="PATH", help="file or folder of weights (default: the nano weights)")
    parser.add_argument("--config", action="append", type=Path, default=[], metavar="FILE", help="settings")
    parser.add_argument("--device", help="default: cuda where there is one")
    parser.add_argument("--ini", action="store_true", help="print the lines for trackers.ini instead")
    return parser
