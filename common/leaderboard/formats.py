"""Tables as HTML, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path

from common.leaderboard.grid import Cell, Grid, Row
from common.leaderboard.render import head, link

HERE = Path(__file__).parent
LATEX = {"\\": r"\textbackslash{}", "†": r"\dag{}", "±": r"$\pm$", "−": "$-$", "δ": r"$\delta$", "×": r"$\times$"} | {
    sign: f"\\{sign}" for sign in "&%$#_{}"
}


def json_text(grids: Sequence[Grid]) -> str:
    """Return all fields of the tables as JSON; ``records`` of a cell are the paths of its records."""
    return json.dumps([asdict(grid) for grid in grids], indent=1, ensure_ascii=False) + "\n"


def csv_text(grids: Sequence[Grid]) -> str:
    """Return one line a cell: table, method, weights, whether it is published, benchmark, metric, value, records."""
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(["table", *(grids[0].leading if grids else ()), "published", "on", "number", "value", "records"])
    for grid in grids:
        for row in grid.rows:
            for (place, number), cell in zip(grid.heads, row.cells, strict=True):
                if cell.text:
                    label = [grid.title, row.method, row.weights, row.published]
                    words = [*label, place, number, cell.text, " ".join(cell.records)]
                    lines.writerow([_no_formula(word) if isinstance(word, str) else word for word in words])
    return file.getvalue()


def _no_formula(word: str) -> str:
    """Return a cell that no spreadsheet takes for a formula: an apostrophe precedes what could begin one."""
    number = word.lstrip("+-").replace(".", "", 1).isdigit()
    return f"'{word}" if word.startswith(("=", "+", "-", "@", "\t", "\r")) and not number else word


def latex(grids: Sequence[Grid]) -> str:
    """Return ``booktabs`` tables: the best number bold, the second underlined, published rows below a rule."""
    return "\n".join(_latex_grid(grid) for grid in grids)


def html(grids: Sequence[Grid], page_folder: Path | None = None) -> str:
    """Return a page of tables.

    Args:
        grids: the tables.
        page_folder: folder of the page, which links are relative to; default: the current one.
    """
    return document("Leaderboard", html_tables(grids, page_folder))


def html_tables(grids: Sequence[Grid], page_folder: Path | None = None) -> str:
    """Return HTML tables whose numbers link to their records; all but the first are folded.

    Args:
        grids: the tables.
        page_folder: folder of the page, which links are relative to; default: the current one.
    """
    return "\n".join(_html_grid(grid, page_folder or Path(), number > 0) for number, grid in enumerate(grids))


def document(title: str, body: str, script: str = "") -> str:
    """Return a self-contained page with sortable tables, light or dark as the browser prefers.

    Args:
        title: title of the page.
        body: HTML of the page.
        script: JavaScript of the page.
    """
    style, sort = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "sort.js"))
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<title>{title}</title><style>\n{style}</style></head>\n'
        f"<body>\n{body}\n<script>\n{script}{sort}</script>\n</body></html>\n"
    )


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


def _html_grid(grid: Grid, page_folder: Path, folded: bool) -> str:
    heads = "".join(f"<th>{_html_head(pair)}</th>" for pair in (*(("", name) for name in grid.leading), *grid.heads))
    rows = "\n".join(_html_row(row, page_folder) for row in grid.rows)
    notes = "".join(f"<li>{escape(note)}</li>" for note in grid.notes)
    title = escape(grid.title)
    table = f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>"
    body = f'<div class="wide">{table}</div>\n<ul class="notes">{notes}</ul>'
    if folded:
        return f'<details class="grid"><summary>{title}</summary>\n{body}</details>'
    return f'<section class="grid"><h2>{title}</h2>\n{body}</section>'


def _html_head(pair: tuple[str, str]) -> str:
    return "<br>".join(escape(part) for part in pair if part)


def _html_row(row: Row, page_folder: Path) -> str:
    kind = ' class="published"' if row.published else ""
    label = f"<td>{escape(row.method)}</td><td>{escape(row.weights)}</td>"
    return f"<tr{kind}>{label}{''.join(_html_cell(cell, page_folder) for cell in row.cells)}</tr>"


def _html_cell(cell: Cell, page_folder: Path) -> str:
    text = escape(cell.text)
    text = f"<b>{text}</b>" if cell.best else f"<u>{text}</u>" if cell.second else text
    links = [link(record, page_folder) for record in cell.records]
    if len(links) == 1:
        text = f'<a href="{links[0]}">{text}</a>'
    elif links:
        text += "".join(f'<sup><a href="{url}">{number}</a></sup>' for number, url in enumerate(links, 1))
    return f"<td>{text}</td>"
