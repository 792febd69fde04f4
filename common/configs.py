"""Configs of runs: YAML files, and rows of a ``rows.yaml``, which are named ``FILE:ROW``.

A ``rows.yaml`` holds the rows of a paper's tables as differences to a config, which it is given after:

    class_path: methods.univs.UniVS
    after: [nano, paper + paper_stage2]    # the configs of this folder that a row is given after: one of these
    rows:
      table3a_prompts: {about: "Table 3a, prompts as queries", model: {proca: false}}

A row may have ``about``, ``after``, and settings of ``model`` and ``data`` (constructor arguments) and ``trainer``.
A row without settings is the config itself. The runs of a row go to ``runs/<folder>_<row>``.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from common.errors import InputError

ROWS = "rows.yaml"
DATA = "common.data.datamodule.VideoDataModule"
KEYS = {"about", "after", "model", "data", "trainer"}


@dataclass(frozen=True)
class Row:
    """A row of a table, as a difference to a config.

    Attributes:
        about: the row in words.
        after: what the row may be given after: each a sequence of configs of the same folder, without suffix.
        model: changed constructor arguments of the method.
        data: changed constructor arguments of the data module.
        trainer: changed settings of the trainer.
    """

    about: str = ""
    after: tuple[tuple[str, ...], ...] = ()
    model: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)


def load_config(path: str | Path) -> dict[str, Any]:
    """Load a config.

    Args:
        path: a YAML file, or ``FILE:ROW``.

    Raises:
        InputError: the file cannot be read or is not a mapping, or there is no such row.
    """
    file, name = split_row(path)
    if file.name != ROWS:
        return _load(file)
    content, rows = _load(file), load_rows(file)
    if not name:
        raise InputError(f"{file}: name one of its rows, e.g. {file}:{next(iter(rows))}")
    if name not in rows:
        close = difflib.get_close_matches(name, rows, n=1)
        raise InputError(f"{file}: no row {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
    row, folder = rows[name], file.parent.name
    config: dict[str, Any] = {"trainer": {"default_root_dir": f"runs/{folder}_{name}", **row.trainer}}
    config["model"] = {"class_path": content["class_path"], "init_args": row.model}
    return config | ({"data": {"class_path": DATA, "init_args": row.data}} if row.data else {})


def split_row(path: str | Path) -> tuple[Path, str]:
    """Return the file of a config and the name of the row, which is empty where the config is a whole file.

    Args:
        path: a YAML file, or ``FILE:ROW``.
    """
    file, mark, row = str(path).rpartition(f"{ROWS}:")
    return (Path(file + ROWS), row) if mark else (Path(path), "")


def load_rows(path: str | Path) -> dict[str, Row]:
    """Load the rows of a ``rows.yaml`` by name.

    Args:
        path: the file.

    Raises:
        InputError: the file cannot be read, or is no file of rows.
    """
    content = _load(Path(path))
    if set(content) != {"class_path", "after", "rows"}:
        raise InputError(f"{path}: a file of rows has class_path, after and rows")
    rows = {}
    for name, row in content["rows"].items():
        if not isinstance(row, dict) or set(row) - KEYS:
            raise InputError(f"{path}: row {name}: its keys are {', '.join(sorted(KEYS))}")
        after = tuple(tuple(chain.split(" + ")) for chain in row.get("after", content["after"]))
        rows[name] = Row(**{**row, "after": after})
    return rows


def with_rows(arguments: Sequence[str]) -> list[str]:
    """Replace each ``FILE:ROW`` that follows ``--config`` by the content of the row, for a parser that reads files.

    Args:
        arguments: arguments of a command line.

    Raises:
        InputError: a row cannot be loaded, see ``load_config``.
    """
    resolved: list[str] = []
    for argument in arguments:
        flag, equals, value = argument.partition("=") if argument.startswith("--config=") else ("", "", argument)
        is_config = bool(equals) or (bool(resolved) and resolved[-1] in ("--config", "-c"))
        is_row = is_config and split_row(value)[0].name == ROWS
        resolved.append(flag + equals + json.dumps(load_config(value)) if is_row else argument)
    return resolved


def _load(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: no settings in it")
    return content
