"""The record of one run on one benchmark, with everything needed to run it again."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.files import digest, write_text

FILE = "results.json"
DIGITS = 6  # significant digits of metrics in a .jsonl file; tables show at most four
WEIGHTS_NOTES = {
    "nano": "the method's own nano weights, which are in this repository",
    "published": "weights of the authors' release, recognised by their layout",
    "partial": "weights of a part of the network, to start a training from; the rest has initial values",
    "trained here": "a checkpoint of a training run, or a file exported from one",
    "random": "an untrained network, on purpose",
    "predictions": "a submission was scored, whose weights are not known",
    "": "a method without weights",
}
"""The values of ``weights_note``, as a table shows them, and what they mean."""


@dataclass
class ResultRecord:
    """Result of one run on one split of one benchmark. The leaderboard reads nothing else.

    Attributes:
        method: class or short name of the method, e.g. ``SAM2Long``.
        variant: size or setting that makes it a row of its own, e.g. ``nano``.
        benchmark: the suite's benchmark id, e.g. ``davis2016``.
        split: e.g. ``val``.
        metrics: the metric's numbers as fractions; NaN where undefined.
        videos: the same for each video.
        protocol: one line on which frames were scored and how they were averaged.
        protocol_id: digest of benchmark, split, protocol and videos: only numbers with equal ids are comparable.
        config: all settings of the run, as plain data.
        weights: path or hub id of the weights; empty where none were loaded.
        weights_sha256: SHA-256 of the weights file.
        weights_note: origin of the weights, for the table: one of ``WEIGHTS_NOTES``; see ``standard_note``.
        frames_per_second: number of frames divided by the time of the method, without decoding and scoring.
        peak_memory_mb: peak memory of the GPU where one was used, else of the process, in 10^6 bytes.
        parameters: number of parameters of the network.
        gflops: floating-point operations per frame, mean over the first frames of the first video, in 10^9.
        machine: ``cpu``, ``cores``, ``gpu``.
        versions: of Python and of the packages.
        commit: of this code; ends in ``+dirty`` where files differed from it; empty outside a checkout.
        seed: seed of the run.
        date: UTC, ISO 8601.
        path: the file that it was read from, with ``#L<number>`` for a line of a ``.jsonl`` file; not stored.
    """

    method: str
    benchmark: str
    split: str
    metrics: dict[str, float]
    variant: str = ""
    videos: dict[str, dict[str, float]] = field(default_factory=dict)
    protocol: str = ""
    protocol_id: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    weights: str = ""
    weights_sha256: str = ""
    weights_note: str = ""
    frames_per_second: float | None = None
    peak_memory_mb: float | None = None
    parameters: int | None = None
    gflops: float | None = None
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    commit: str = ""
    seed: int | None = None
    date: str = ""
    path: str = field(default="", compare=False)

    @property
    def standard_note(self) -> str:
        """``weights_note`` as one of ``WEIGHTS_NOTES``.

        Up to version 0.1 records have ``ours``, ``ours nano`` or the name of the file. An unknown note stays as it is.
        """
        if self.weights_note in WEIGHTS_NOTES:
            return self.weights_note
        if self.weights_note == "ours" and self.method == "VQ-SAM":  # the weights of the nano SAM 2
            return "partial"
        if self.weights_note.startswith("ours") or self.weights_note.endswith("_nano.safetensors"):
            return "nano"
        endings = {".ckpt": "trained here", ".pt": "published", ".pth": "published", ".pkl": "published"}
        return endings.get(Path(self.weights_note).suffix, self.weights_note)

    @property
    def config_hash(self) -> str:
        """Digest of the settings."""
        return digest(self.config)

    def write(self, folder: str | Path) -> Path:
        """Write ``<folder>/results.json`` in one step: readers see the old file or the new one, never half of it."""
        path = Path(folder) / FILE
        write_text(path, json.dumps(_nan_to_null(self._stored()), indent=1, default=str, allow_nan=False) + "\n")
        return path

    def line(self) -> str:
        """Return the record as one line of JSON: sorted keys, metrics with ``DIGITS`` significant digits."""
        data = self._stored()
        data |= {key: _rounded(data[key]) for key in ("metrics", "videos")}
        text = json.dumps(_nan_to_null(data), sort_keys=True, ensure_ascii=False, default=str, allow_nan=False)
        return text + "\n"

    def _stored(self) -> dict[str, Any]:
        """Return the fields that are written, with ``config_hash``."""
        data = {**dataclasses.asdict(self), "config_hash": self.config_hash}
        del data["path"]
        return data

    @classmethod
    def read(cls, path: str | Path) -> ResultRecord:
        """Read a record.

        Args:
            path: the file.

        Raises:
            InputError: the file is missing, damaged, or not a record.
        """
        return cls._parse(_text(path), str(path))

    @classmethod
    def read_lines(cls, path: str | Path) -> list[ResultRecord]:
        """Read the records of a ``.jsonl`` file, one a line; empty lines are skipped.

        Args:
            path: the file.

        Raises:
            InputError: the file is missing, or a line is damaged or is no record; names the line.
        """
        lines = enumerate(_text(path).split("\n"), 1)
        return [cls._parse(line, f"{path}#L{number}") for number, line in lines if line.strip()]

    @classmethod
    def _parse(cls, text: str, path: str) -> ResultRecord:
        try:
            data = json.loads(text)
        except ValueError as error:
            raise InputError(f"{path}: the record is damaged ({error}); remove it and run the test again") from error
        return cls(**_checked(data, path), path=path)


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot read the record ({error.strerror})") from error


def _checked(data: object, path: str) -> dict[str, Any]:
    """The fields of a record; numbers that were undefined are NaN again."""
    if not isinstance(data, dict):
        raise InputError(f"{path}: no record of a run, but a {type(data).__name__}")
    data.pop("config_hash", None)
    fields = {f.name for f in dataclasses.fields(ResultRecord)} - {"path"}
    missing = [n for n in ("method", "benchmark", "split", "metrics") if n not in data]
    surplus = [n for n in data if n not in fields]
    if missing or surplus:
        what = f"lacks {', '.join(missing)}" if missing else f"has the unknown key {surplus[0]}"
        raise InputError(f"{path}: no record of this version of the suite: it {what}")
    for key in ("metrics", "videos", "config", "machine", "versions"):
        if not isinstance(data.get(key, {}), dict):
            raise InputError(f"{path}: the record is damaged: {key} must be a table of names and values")
    data["metrics"] = _numbers(data["metrics"], path)
    data["videos"] = {name: _numbers(values, path) for name, values in data.get("videos", {}).items()}
    return data


def _numbers(values: object, path: str) -> dict[str, float]:
    """Numbers by name; null is NaN."""
    if not isinstance(values, dict):
        raise InputError(f"{path}: the record is damaged: {values!r} should be numbers by name")
    for name, value in values.items():
        if value is not None and not isinstance(value, (int, float)):
            raise InputError(f"{path}: the record is damaged: {name} is {value!r}, not a number")
    return {name: math.nan if value is None else float(value) for name, value in values.items()}


def _rounded(data: object) -> object:
    """Return plain data with all floats rounded to ``DIGITS`` significant digits."""
    if isinstance(data, dict):
        return {key: _rounded(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_rounded(value) for value in data]
    return float(f"{data:.{DIGITS}g}") if isinstance(data, float) else data


def _nan_to_null(data: object) -> object:
    """Plain data with NaN as null, since JSON has no NaN."""
    if isinstance(data, dict):
        return {str(key): _nan_to_null(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_nan_to_null(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
