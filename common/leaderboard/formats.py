"""Grids as HTML, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import html as escape
import io
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from common.leaderboard.grid import Cell, Grid, Row
from common.leaderboard.render import head

LATEX = {"\\": r"\textbackslash{}", "†": r"\dag{}", "±": r"$\pm$", "−": "$-$", "δ": r"$\delta$", "×": r"$\times$"} | {
    sign: f"\\{sign}" for sign in "&%$#_{}"
}


def json_text(grids: Sequence[Grid]) -> str:
    """Everything a grid holds; ``records`` of a cell are the paths of its results.json files."""
    return json.dumps([asdict(grid) for grid in grids], indent=1, ensure_ascii=False) + "\n"


def csv_text(grids: Sequence[Grid]) -> str:
    """One line a cell: who, whether it is in print, what it was measured on, which number, its value, its records."""
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(["table", *_plain(grids), "published", "on", "number", "value", "records"])
    for grid in grids:
        for row in grid.rows:
            for (place, number), cell in zip(grid.heads, row.cells, strict=True):
                if cell.text:
                    who = [grid.title, row.method, row.weights, row.published]
                    lines.writerow([*who, place, number, cell.text, " ".join(cell.records)])
    return file.getvalue()


def latex(grids: Sequence[Grid]) -> str:
    """``booktabs`` tables: the best number bold, the second underlined, printed rows under a rule."""
    return "\n".join(_latex_grid(grid) for grid in grids)


def html(grids: Sequence[Grid], beside: Path | None = None) -> str:
    """Tables; a number leads to its records.

    Args:
        beside: folder that links start from; default: the current one.
    """
    return "\n".join(_html_grid(grid, beside or Path()) for grid in grids)


def _plain(grids: Sequence[Grid]) -> list[str]:
    return list(grids[0].leading) if grids else []


def _latex_grid(grid: Grid) -> str:
    heads = [*grid.leading, *map(head, grid.heads)]
    lines = [f"% {grid.title}", f"\\begin{{tabular}}{{ll{'r' * len(grid.heads)}}}", "\\toprule"]
    lines += [" & ".join(map(_tex, heads)) + r" \\", "\\midrule"]
    was_published = False
    for number, row in enumerate(grid.rows):
        if row.published and not was_published and number:
            lines.append("\\midrule")
        was_published = row.published
        lines.append(" & ".join([_tex(row.method), _tex(row.weights), *map(_tex_cell, row.cells)]) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", *(f"% {note}" for note in grid.notes), ""])


def _tex(text: str) -> str:
    return "".join(LATEX.get(sign, sign) for sign in text)


def _tex_cell(cell: Cell) -> str:
    wrap = "\\textbf{%s}" if cell.best else "\\underline{%s}" if cell.second else "%s"
    return wrap % _tex(cell.text) if cell.text else ""


def _html_grid(grid: Grid, beside: Path) -> str:
    heads = "".join(f"<th>{escape.escape(name)}</th>" for name in (*grid.leading, *map(head, grid.heads)))
    rows = "\n".join(_html_row(row, beside) for row in grid.rows)
    notes = "".join(f"<li>{escape.escape(note)}</li>" for note in grid.notes)
    title = f'<h2 id="{re.sub(r"[^a-z0-9]+", "-", grid.title.lower())}">{escape.escape(grid.title)}</h2>'
    table = f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>"
    return f'<section class="grid">{title}\n<div class="wide">{table}</div>\n<ul class="notes">{notes}</ul></section>'


def _html_row(row: Row, beside: Path) -> str:
    kind = ' class="published"' if row.published else ""
    who = f"<td>{escape.escape(row.method)}</td><td>{escape.escape(row.weights)}</td>"
    return f"<tr{kind}>{who}{''.join(_html_cell(cell, beside) for cell in row.cells)}</tr>"


def _html_cell(cell: Cell, beside: Path) -> str:
    text = escape.escape(cell.text)
    text = f"<b>{text}</b>" if cell.best else f"<u>{text}</u>" if cell.second else text
    links = [_link(Path(record), beside) for record in cell.records]
    if len(links) == 1:
        text = f'<a href="{links[0]}">{text}</a>'
    elif links:
        text += "".join(f'<sup><a href="{link}">{number}</a></sup>' for number, link in enumerate(links, 1))
    return f"<td>{text}</td>"


def _link(record: Path, beside: Path) -> str:
    import os
    from urllib.parse import quote

    return quote(Path(os.path.relpath(record, beside.resolve())).as_posix())
