"""Where the numbers of a table come from: records of runs, and what the papers print."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.errors import InputError
from common.records.record import FILE, ResultRecord

METHODS = Path(__file__).resolve().parents[2] / "methods"
KEYS = ("table", "method", "variant", "dataset", "split", "metric", "value")


@dataclass(frozen=True)
class PublishedRow:
    """One printed number of one paper.

    Attributes:
        paper: id of the paper, which is the folder of its method.
        table: number of the table in print.
        method, variant: as printed.
        benchmark, split: the suite's ids.
        metric: as printed.
        value: as printed: percent, unless the metric's name or the benchmark says otherwise.
        doubtful: the print is damaged there.
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


def collect(paths: Iterable[str | Path]) -> list[ResultRecord]:
    """Records in the given files and below the given folders, in the order of their paths.

    Raises:
        InputError: a path does not exist or a record is damaged.
    """
    files: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"{path}: no such file or folder of results")
        found = sorted(path.rglob(FILE)) if path.is_dir() else [path]
        files.update(dict.fromkeys(file.resolve() for file in found))
    return [ResultRecord.read(file) for file in files]


def published(methods: str | Path = METHODS) -> list[PublishedRow]:
    """All numbers in ``<methods>/*/paper.yaml``.

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
    value, doubtful = float(row["value"]), bool(row.get("doubtful"))
    return PublishedRow(paper, table, method, variant, benchmark, split, metric, value, doubtful)
