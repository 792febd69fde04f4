"""Tables as Markdown and for the terminal."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from common.leaderboard.collect import LINES
from common.leaderboard.grid import Cell, Grid

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 240  # characters of a line in a file


def markdown(grids: Sequence[Grid], page_folder: Path | None = None) -> str:
    """Return GitHub's pipe tables: the best measured number of a column is bold, the second in italics.

    Args:
        grids: the tables.
        page_folder: folder of the page; where given, numbers link to their records with paths relative to it.
    """
    return "\n\n".join(_markdown_grid(grid, page_folder) for grid in grids) + "\n"


def terminal(grids: Sequence[Grid], plain: bool = False) -> str:
    """Return tables as ``rich`` draws them for this terminal.

    A table that is wider than the terminal becomes one for each benchmark.

    Args:
        grids: the tables.
        plain: draw for a file: without colours, ``WIDTH`` characters wide.
    """
    from rich.console import Console

    console = Console(highlight=False)
    if plain or not console.is_terminal:
        console = Console(highlight=False, width=WIDTH, color_system=None, force_terminal=False)
    with console.capture() as capture:
        for grid in grids:
            needed = console.measure(_rich_grid(grid), options=console.options.update(max_width=10_000)).maximum
            for part in [grid] if needed <= console.width else grid.by_place():
                console.print(_rich_grid(part))
                for note in part.notes:
                    console.print(note, style="dim", markup=False)
                console.print()
    return "\n".join(line.rstrip() for line in capture.get().split("\n"))


def _markdown_grid(grid: Grid, page_folder: Path | None) -> str:
    lines = [[*grid.leading, *map(head, grid.heads)], ["---"] * len(grid.leading) + ["---:"] * len(grid.heads)]
    lines += [[row.method, row.weights, *(_marked(cell, page_folder) for cell in row.cells)] for row in grid.rows]
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    title = f"### {grid.title}\n\n" if grid.title else ""
    return f"{title}{body}\n\n" + "\n".join(f"- {note}" for note in grid.notes)


def head(pair: tuple[str, str]) -> str:
    """Return the head of a column as one line.

    Args:
        pair: (benchmark and split, metric).
    """
    return " ".join(pair).strip()


def link(record: str, page_folder: Path) -> str:
    """Return the URL of a record, relative to a folder; of a line of a ``.jsonl`` file it ends in ``#L<number>``.

    Args:
        record: path of the record.
        page_folder: folder of the page with the link.
    """
    path, mark, line = record.partition(f"{LINES}#")
    relative = Path(os.path.relpath(f"{path}{LINES}" if mark else path, page_folder.resolve()))
    return quote(relative.as_posix()) + (f"#{line}" if mark else "")


def _marked(cell: Cell, page_folder: Path | None) -> str:
    links = [link(record, page_folder) for record in cell.records] if page_folder else []
    text = f"[{cell.text}]({links[0]})" if len(links) == 1 else cell.text
    text = f"**{text}**" if cell.best else f"_{text}_" if cell.second else text
    return text + "".join(f" [{number}]({url})" for number, url in enumerate(links, 1) if len(links) > 1)


def _rich_grid(grid: Grid) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=grid.title, title_justify="left")
    for name in grid.leading:
        table.add_column(name)
    for pair in grid.heads:
        table.add_column(Text(head(pair)), justify="right")
    was_published = False
    for row in grid.rows:
        if row.published and not was_published:
            table.add_section()
        was_published = row.published
        style = "dim" if row.published else ""
        cells = [Text(cell.text, style="bold" if cell.best else "italic" if cell.second else "") for cell in row.cells]
        table.add_row(Text(row.method), Text(row.weights), *cells, style=style)
    return table
