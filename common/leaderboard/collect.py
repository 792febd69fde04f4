"""Load what a table is made of: records of runs, and the numbers that papers print."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.errors import InputError
from common.records.record import FILE, ResultRecord

LINES = ".jsonl"  # suffix of a file with one record a line
METHODS = Path(__file__).resolve().parents[2] / "methods"
KEYS = ("table", "method", "variant", "dataset", "split", "metric", "value")


@dataclass(frozen=True)
class PublishedRow:
    """One number in a table of a paper.

    Attributes:
        paper: id of the paper, equal to the name of its method's folder.
        table: number of the table in the paper, e.g. ``5`` or ``Supp. 1``.
        method: name of the method as printed.
        variant: size or setting as printed.
        benchmark: id of the benchmark in this suite.
        split: split of the benchmark, e.g. ``val``.
        metric: name of the metric in this suite; what is no metric of the benchmark is named as printed.
        value: as printed, in percent unless the metric or the benchmark has another unit.
        doubtful: whether the print is illegible there.
        protocol: words of the protocol line of the benchmark by which it was scored; empty where that is not told.
    """

    paper: str
    table: str
    method: str
    variant: str
    benchmark: str
    split: str
    metric: str
    value: float
    doubtful: bool = False
    protocol: str = ""


def collect(paths: Iterable[str | Path]) -> list[ResultRecord]:
    """Load records from files and folders.

    Args:
        paths: ``results.json`` files, ``.jsonl`` files, or folders: of a folder, every ``results.json`` at any depth
            and the ``.jsonl`` files directly in it.

    Returns:
        The records in the order of ``paths``, within a folder in the order of file names. A file counts once.

    Raises:
        InputError: a path does not exist or a record is damaged.
    """
    files: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"{path}: no such file or folder of results")
        inside = sorted([*path.rglob(FILE), *path.glob(f"*{LINES}")]) if path.is_dir() else [path]
        files.update(dict.fromkeys(file.resolve() for file in inside))
    return [record for file in files for record in _read(file)]


def _read(file: Path) -> list[ResultRecord]:
    return ResultRecord.read_lines(file) if file.suffix == LINES else [ResultRecord.read(file)]


def published(methods: str | Path = METHODS) -> list[PublishedRow]:
    """Load the numbers of all ``<methods>/*/paper.yaml``.

    Args:
        methods: folder with one folder a method.

    Raises:
        InputError: a file is not YAML or a row lacks a key.
    """
    return [row for file in sorted(Path(methods).glob("*/paper.yaml")) for row in _read_paper(file)]


def _read_paper(file: Path) -> list[PublishedRow]:
    try:
        data: Any = yaml.load(file.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return [_row(data["paper"]["id"], row) for row in data["rows"]]
    except yaml.YAMLError as error:
        raise InputError(f"{file}: not YAML ({' '.join(str(error).split())})") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file}: it needs paper.id and rows with {', '.join(KEYS)}; trouble with {error}") from error


def _row(paper: str, row: dict[str, Any]) -> PublishedRow:
    table, method, variant, benchmark, split, metric = (str(row[key]) for key in KEYS[:-1])
    value, doubtful, protocol = float(row["value"]), bool(row.get("doubtful")), str(row.get("protocol", ""))
    return PublishedRow(paper, table, method, variant, benchmark, split, metric, value, doubtful, protocol)
