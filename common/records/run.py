"""Where a number comes from: the method's settings, weights and code."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.files import digest
from common.records.environment import environment
from common.records.record import ResultRecord

COMMON = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class RunInfo:
    """Everything about a run that does not depend on the benchmark.

    Attributes:
        method: name of the method in a table.
        variant: size or setting that makes it a row of its own.
        config: all settings as plain data: ``model`` (``class_path``, ``init_args``) and ``precision``.
        weights: path or name of the weights; empty where none were loaded.
        weights_sha256: of the weights file; empty where there is no file.
        weights_note: origin of the weights, for the table.
        weights_digests: digests of all values that the answers depend on, those of borrowed networks included.
        code: digest of the source code, see ``code_digest``.
        seed: seed of the run.
        parameters: number of parameters of the network.
    """

    method: str
    variant: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    weights: str = ""
    weights_sha256: str = ""
    weights_note: str = ""
    weights_digests: Sequence[str] = ()
    code: str = ""
    seed: int | None = None
    parameters: int | None = None

    def key(self, *protocol: str) -> str:
        """Return a digest of everything that the numbers of one video depend on.

        The path of the weights is left out: their values count, wherever they were loaded from.

        Args:
            protocol: name, split and protocol of the benchmark.
        """
        model = self.config.get("model", {})
        arguments = {key: value for key, value in model.get("init_args", {}).items() if key != "weights"}
        config = {**self.config, "model": {**model, "init_args": arguments}}
        return digest(config, list(self.weights_digests), self.code, self.seed, *protocol)

    def record(self, **results: Any) -> ResultRecord:
        """Return the record of one benchmark, made here and now.

        Args:
            results: the fields of ``ResultRecord`` that depend on the benchmark.
        """
        return ResultRecord(
            method=self.method,
            variant=self.variant,
            config=self.config,
            weights=self.weights,
            weights_sha256=self.weights_sha256,
            weights_note=self.weights_note,
            seed=self.seed,
            parameters=self.parameters,
            **results,
            **environment(),
        )


def class_path(kind: type) -> str:
    """Return the import path of a class as YAML has it: by the outermost package that exports it."""
    parts = kind.__module__.split(".")
    for depth in range(1, len(parts)):
        package = ".".join(parts[:depth])
        if getattr(sys.modules.get(package), kind.__name__, None) is kind:
            return f"{package}.{kind.__name__}"
    return f"{kind.__module__}.{kind.__name__}"


def relative_path(file: str | Path) -> str:
    """Return the path of a file relative to the working directory if it lies below: records are read elsewhere too."""
    path, here = Path(file).resolve(), Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else str(file)


def global_seed() -> int | None:
    """Return the seed of Lightning's ``seed_everything``, or None if it was not called."""
    seed = os.environ.get("PL_GLOBAL_SEED")
    return int(seed) if seed else None


@functools.cache
def code_digest(folder: Path) -> str:
    """Return the SHA-256 of the Python source of ``common`` and of a method's folder."""
    total = hashlib.sha256()
    for path in sorted({*COMMON.rglob("*.py"), *folder.rglob("*.py")}):
        total.update(path.read_bytes())
    return total.hexdigest()
