"""The verb ``vot``: run a method as a tracker of the VOT toolkit, over the TraX protocol."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from common.cli.build import build_method, method_folders
from common.cli.methods import ROOT
from common.errors import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the toolkit until it ends the session.

    Args:
        argv: arguments after the verb.

    Raises:
        InputError: TraX is not installed, or see ``common.cli.build`` and ``common.vot.trax.serve``.
    """
    args = _parser().parse_args(argv)
    if args.ini:
        print(ini_lines(args.method, args.weights, args.config))
        return 0
    trax = _trax()
    import torch

    from common.vot.trax import serve

    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    segmenter = build_method(args.method, args.weights, args.config)
    serve(segmenter.to(device).eval().session, segmenter.method_name, device, trax)
    return 0


def ini_lines(method: str, weights: str | None = None, configs: Iterable[Path] = ()) -> str:
    """Return the section of the toolkit's ``trackers.ini`` that starts a method, with absolute paths.

    Args:
        method: short name.
        weights: file or folder.
        configs: YAML files.
    """
    command = [sys.executable, str(ROOT / "cli.py"), "vot", "--method", method]
    if weights is not None:
        command += ["--weights", str(Path(weights).resolve()) if Path(weights).exists() else weights]
    for config in configs:
        command += ["--config", str(config.resolve())]
    lines = ["protocol = trax", f"command = {shlex.join(command)}", "timeout = 300"]
    return "\n".join([f"[vidseg_{method}]", f"label = {method}", *lines])


def _trax() -> Any:
    try:
        import trax
    except ImportError:
        raise InputError("the package vot-trax is not installed; run: pip install 'vot-trax>=4' (or .[vot])") from None
    return trax


def _parser() -> argparse.ArgumentParser:
    example = "In the toolkit's workspace: cli.py vot --method hqsmem --ini >> trackers.ini; vot evaluate vidseg_hqsmem"
    parser = argparse.ArgumentParser(
        prog="cli.py vot", description="Run as a tracker of the VOT toolkit.", epilog=example
    )
    parser.add_argument("--method", required=True, choices=list(method_folders()))
    parser.add_argument("--weights", metavar="PATH", help="file or folder of weights (default: the nano weights)")
    parser.add_argument("--config", action="append", type=Path, default=[], metavar="FILE", help="settings")
    parser.add_argument("--device", help="default: cuda where available")
    parser.add_argument("--ini", action="store_true", help="print the lines for trackers.ini instead")
    return parser
