"""The verb ``doctor``: check the installation."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version

from common.errors import InputError

NEEDED = (
    *("torch", "lightning", "torchmetrics", "transformers", "jsonargparse", "numpy", "pillow", "av"),
    *("opencv-python-headless", "pycocotools", "safetensors"),
)
OPTIONAL = {
    "sam2": "the parity tests of the SAM 2 core",
    "pytest": "make test",
    "detectron2": "data sets from its catalogue",
    "vot-trax": "running inside the VOT toolkit",
    "torchvision": "not used by the suite",
}
ENOUGH_GB = 5  # free disk for an environment, runs and their checkpoints


def main(argv: Sequence[str] | None = None) -> int:
    """Print machine, packages, data and weights.

    Args:
        argv: arguments after the verb.

    Returns:
        1 if a required package is missing, else 0.
    """
    argparse.ArgumentParser(prog="cli.py doctor", description="Check the installation.").parse_args(argv)
    missing = [name for name in NEEDED if _version(name) is None]
    for title, lines in (
        ("machine", _machine()),
        ("packages", _packages()),
        ("data", _data()),
        ("weights", _weights()),
    ):
        print(title)
        for line in lines:
            print(f"  {line}")
    print(f"missing: {', '.join(missing)}; run make setup" if missing else "all required packages are installed")
    return int(bool(missing))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _machine() -> Iterator[str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {cores} cores"
    free = shutil.disk_usage(".").free / 1e9
    yield f"{free:.0f} GB of disk free" + (f": too little, {ENOUGH_GB} are needed" if free < ENOUGH_GB else "")
    if _version("torch") is None:
        return
    import torch

    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        yield f"GPU {number}: {about.name}, {about.total_memory / 1e9:.0f} GB"
    if not torch.cuda.is_available():
        cause = "torch was built without CUDA" if torch.version.cuda is None else "CUDA finds no device"
        yield f"no GPU ({cause}): everything runs on the CPU; paper-size training needs one"


def _packages() -> Iterator[str]:
    for name in NEEDED:
        yield f"{name} {_version(name) or 'MISSING'}"
    for name, use in OPTIONAL.items():
        yield f"{name} {_version(name) or 'not installed'} (optional: {use})"


def _data() -> Iterator[str]:
    from common.benchmarks.registry import BENCHMARKS, make_benchmark
    from common.benchmarks.roots import VARIABLE

    yield f"${VARIABLE}: {os.environ.get(VARIABLE) or 'not set'}"
    absent = []
    for name in BENCHMARKS:
        benchmark = make_benchmark(name)
        if benchmark.layout and benchmark.folders:
            try:
                yield f"{name}: {benchmark.root}"
            except InputError:
                absent.append(name)
    yield f"not found: {', '.join(absent) or 'none'} (python cli.py benchmarks NAME says where to get one)"


def _weights() -> Iterator[str]:
    from common.cli.weights import known_weights
    from common.files import WEIGHTS_VARIABLE

    yield f"weights/ and ${WEIGHTS_VARIABLE}: {os.environ.get(WEIGHTS_VARIABLE) or 'not set'}"
    entries = known_weights()
    for entry in entries:
        if entry.path is not None:
            yield f"{entry.method}: {entry.file}, {entry.state}"
    absent = {entry.method: entry for entry in entries if entry.path is None}
    yield f"published weights not found for: {', '.join(absent) or 'none'} (python cli.py weights METHOD)"
