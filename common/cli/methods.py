"""The verb ``methods``: list the methods from their ``method.yaml``, without importing them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Column, Table

ROOT = Path(__file__).resolve().parents[2]


def main(argv: Sequence[str] | None = None) -> int:
    """Print a few lines for each method.

    Args:
        argv: arguments after the verb.
    """
    argparse.ArgumentParser(prog="cli.py methods", description="The methods of the suite.").parse_args(argv)
    table = Table.grid(Column(no_wrap=True, style="bold"), Column(overflow="fold"), padding=(0, 3, 0, 0))
    for kind, title, arxiv, tasks, configs in rows(ROOT):
        table.add_row(kind, f"{tasks}   arXiv {arxiv}\n{title}\nconfigs: {configs}\n")
    Console(highlight=False).print(table)
    return 0


def rows(root: Path) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield class, title, arXiv id, tasks and configs of every ``methods/<name>/method.yaml``.

    Args:
        root: of the project.
    """
    for path in sorted((root / "methods").glob("*/method.yaml")):
        method = yaml.safe_load(path.read_text(encoding="utf-8"))
        configs = sorted((root / "configs" / path.parent.name).glob("*.yaml"))
        names = ", ".join(config.stem for config in configs)
        yield method["class"], method["title"], str(method["arxiv"]), ", ".join(method["tasks"]), names
