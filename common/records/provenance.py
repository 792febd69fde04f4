"""Where a number comes from: the method's settings, weights and code, for the record and for going on after a stop."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.checkpoints import state_digest
from common.records.record import ResultRecord, digest, environment, file_sha256

if TYPE_CHECKING:
    from common.benchmarks.base import Benchmark
    from common.segmenter import VideoSegmenter


def class_path(kind: type) -> str:
    """Where a class is imported from, as YAML has it: by the outermost package that exports it."""
    parts = kind.__module__.split(".")
    for depth in range(1, len(parts)):
        package = ".".join(parts[:depth])
        if getattr(sys.modules.get(package), kind.__name__, None) is kind:
            return f"{package}.{kind.__name__}"
    return f"{kind.__module__}.{kind.__name__}"


def settings(segmenter: VideoSegmenter) -> dict[str, Any]:
    """Everything that was set, as plain data."""
    given = {key: value for key, value in segmenter.hparams.items() if not key.startswith("_")}
    return {
        "model": {"class_path": class_path(type(segmenter)), "init_args": given},
        "precision": segmenter.trainer.precision,
    }


def run_key(segmenter: VideoSegmenter, benchmark: Benchmark) -> str:
    """Changes with all that one video's numbers depend on: settings, weights, code, seed and protocol."""
    config = settings(segmenter)
    config["model"]["init_args"].pop("weights", None)  # wherever they came from: their values count
    code = _code(Path(inspect.getfile(type(segmenter))).parent)
    weights = [state_digest(segmenter), *map(file_sha256, segmenter.borrowed_files)]
    return digest(config, weights, code, _seed(), benchmark.name, benchmark.split, benchmark.protocol)


def fill_record(
    segmenter: VideoSegmenter,
    benchmark: Benchmark,
    metrics: dict[str, float],
    videos: dict[str, dict[str, float]],
    scored: dict[str, int],
) -> ResultRecord:
    """The record of one benchmark, without speed and memory. ``scored``: number of scored frames of each video."""
    file = segmenter.trainer.ckpt_path or segmenter.weights_file
    return ResultRecord(
        method=segmenter.method_name,
        variant=segmenter.variant,
        benchmark=benchmark.name,
        split=benchmark.split,
        metrics=metrics,
        videos=dict(sorted(videos.items())),
        protocol=benchmark.protocol,
        protocol_id=benchmark.protocol_id(scored),
        config=settings(segmenter),
        weights=_short(file) if file else segmenter.weights or "",
        weights_sha256=file_sha256(file) if file and Path(file).is_file() else "",
        weights_note="trained here" if segmenter.trainer.ckpt_path else segmenter.weights_note,
        seed=_seed(),
        **environment(),
    )


def _short(file: str | Path) -> str:
    """Path of a file, from here if it lies below: a record is read on other machines."""
    path, here = Path(file).resolve(), Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else str(file)


def _seed() -> int | None:
    """Of ``seed_everything``."""
    seed = os.environ.get("PL_GLOBAL_SEED")
    return int(seed) if seed else None


@functools.cache
def _code(folder: Path) -> str:
    """SHA-256 of the source of ``common`` and of the method's folder."""
    total = hashlib.sha256()
    for path in sorted({*Path(__file__).resolve().parents[1].rglob("*.py"), *folder.rglob("*.py")}):
        total.update(path.read_bytes())
    return total.hexdigest()
