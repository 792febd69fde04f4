"""Grids as Markdown and on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from common.leaderboard.grid import Cell, Grid

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 240  # characters of a line in a file


def markdown(grids: Sequence[Grid]) -> str:
    """GitHub's pipe tables; the best measured number of a column is bold, the second in italics."""
    return "\n\n".join(_markdown_grid(grid) for grid in grids) + "\n"


def terminal(grids: Sequence[Grid], plain: bool = False) -> str:
    """What ``rich`` draws for this terminal; ``plain`` = for a file: no colours, as wide as it needs to be.

    A grid that is wider than the terminal becomes one for each benchmark.
    """
    from rich.console import Console

    console = Console(highlight=False)
    if plain or not console.is_terminal:
        console = Console(highlight=False, width=WIDTH, color_system=None, force_terminal=False)
    with console.capture() as capture:
        for grid in grids:
            wanted = console.measure(_rich_grid(grid), options=console.options.update(max_width=10_000)).maximum
            for part in [grid] if wanted <= console.width else grid.by_place():
                console.print(_rich_grid(part))
                for note in part.notes:
                    console.print(note, style="dim", markup=False)
                console.print()
    return "\n".join(line.rstrip() for line in capture.get().split("\n"))


def _markdown_grid(grid: Grid) -> str:
    lines = [[*grid.leading, *map(head, grid.heads)], ["---"] * len(grid.leading) + ["---:"] * len(grid.heads)]
    lines += [[row.method, row.weights, *map(_marked, row.cells)] for row in grid.rows]
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"### {grid.title}\n\n{body}\n\n" + "\n".join(f"- {note}" for note in grid.notes)


def head(pair: tuple[str, str]) -> str:
    """The head of a column in one line."""
    return " ".join(pair).strip()


def _marked(cell: Cell) -> str:
    return f"**{cell.text}**" if cell.best else f"_{cell.text}_" if cell.second else cell.text


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
