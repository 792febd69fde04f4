"""The verb ``methods``: the methods under ``methods/`` and the rows of their tables, read from data files only."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Column, Table

from common.configs import ROWS, load_rows
from common.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


def main(argv: Sequence[str] | None = None) -> int:
    """Print a few lines a method, or the rows of one method.

    Args:
        argv: arguments after the verb; default: those of the process.

    Raises:
        InputError: the named method has no rows.
    """
    parser = argparse.ArgumentParser(prog="cli.py methods", description="The methods of the suite.")
    parser.add_argument("name", nargs="?", metavar="NAME", help="list the rows of this method's tables, e.g. sam2long")
    name = parser.parse_args(argv).name
    table = Table.grid(Column(no_wrap=True, style="bold"), Column(overflow="fold"), padding=(0, 3, 0, 0))
    for line in table_rows(ROOT, name) if name else overview(ROOT):
        table.add_row(*line)
    Console(highlight=False).print(table)
    return 0


def overview(root: Path) -> Iterator[tuple[str, str]]:
    """Yield the class of every method and a description.

    Args:
        root: folder with ``methods`` and ``configs``.
    """
    for kind, title, arxiv, tasks, configs in rows(root):
        name = kind.split(".")[1]
        count = len(load_rows(file)) if (file := root / "configs" / name / ROWS).is_file() else 0
        tables = f"\nrows of tables: {count}, listed by: methods {name}" if count else ""
        yield kind, f"{tasks}   arXiv {arxiv}\n{title}\nconfigs: {configs}{tables}\n"


def rows(root: Path) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield class, title, arXiv id, tasks and configs of every ``methods/<name>/method.yaml``.

    Args:
        root: folder with ``methods`` and ``configs``.
    """
    for path in sorted((root / "methods").glob("*/method.yaml")):
        method = yaml.safe_load(path.read_text(encoding="utf-8"))
        configs = sorted((root / "configs" / path.parent.name).glob("*.yaml"))
        names = ", ".join(config.stem for config in configs if config.name != ROWS)
        yield method["class"], method["title"], str(method["arxiv"]), ", ".join(method["tasks"]), names


def table_rows(root: Path, name: str) -> Iterator[tuple[str, str]]:
    """Yield the config of every row of a method's tables, and what the row is.

    Args:
        root: folder with ``configs``.
        name: name of the method's folder.

    Raises:
        InputError: there is no ``configs/<name>/rows.yaml``.
    """
    files = {path.parent.name: path for path in sorted((root / "configs").glob(f"*/{ROWS}"))}
    if name not in files:
        raise InputError(f"methods {name}: no rows; the methods with rows are {', '.join(files)}")
    for row, entry in load_rows(files[name]).items():
        after = " or ".join(", ".join(f"{config}.yaml" for config in configs) for configs in entry.after)
        yield f"configs/{name}/{ROWS}:{row}", f"{entry.about}; after {after}"
