"""Grids as HTML, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import html as escape
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from common.leaderboard.grid import Cell, Grid, Row
from common.leaderboard.render import head

HERE = Path(__file__).parent
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
    """A page of tables; see ``html_tables``."""
    return document("Leaderboard", html_tables(grids, beside))


def html_tables(grids: Sequence[Grid], beside: Path | None = None) -> str:
    """Tables; a number leads to its records. All but the first are folded.

    Args:
        beside: folder that links start from; default: the current one.
    """
    return "\n".join(_html_grid(grid, beside or Path(), number > 0) for number, grid in enumerate(grids))


def document(title: str, body: str, script: str = "") -> str:
    """A self-contained page, light or dark as the reader has it, whose tables can be sorted."""
    style, sort = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "sort.js"))
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<title>{title}</title><style>\n{style}</style></head>\n'
        f"<body>\n{body}\n<script>\n{script}{sort}</script>\n</body></html>\n"
    )


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


def _html_grid(grid: Grid, beside: Path, folded: bool) -> str:
    heads = "".join(f"<th>{_html_head(pair)}</th>" for pair in (*(("", name) for name in grid.leading), *grid.heads))
    rows = "\n".join(_html_row(row, beside) for row in grid.rows)
    notes = "".join(f"<li>{escape.escape(note)}</li>" for note in grid.notes)
    title = escape.escape(grid.title)
    table = f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>"
    body = f'<div class="wide">{table}</div>\n<ul class="notes">{notes}</ul>'
    if folded:
        return f'<details class="grid"><summary>{title}</summary>\n{body}</details>'
    return f'<section class="grid"><h2>{title}</h2>\n{body}</section>'


def _html_head(pair: tuple[str, str]) -> str:
    return "<br>".join(escape.escape(part) for part in pair if part)


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
