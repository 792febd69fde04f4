"""The report page: one HTML file that needs no server."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path

from common.leaderboard.formats import document, html_tables
from common.leaderboard.grid import Grid
from common.records.record import ResultRecord
from common.report.plots import COLOURS, lines, scatter
from common.report.sequences import Figure, by_benchmark, main_number, row_name, worst_first

SCRIPT = Path(__file__).parent / "page.js"


def page(
    records: Sequence[ResultRecord],
    grids: Sequence[Grid],
    figures: Sequence[Figure],
    notes: Sequence[str],
    page_folder: Path,
) -> str:
    """Return the page as HTML.

    Args:
        records: records of runs.
        grids: tables of them.
        figures: sequences with frames.
        notes: reasons why benchmarks are without frames.
        page_folder: folder of the page, which links are relative to.
    """
    parts = [
        '<nav><a href="#tables">tables</a> <a href="#speed">speed</a> <a href="#sequences">sequences</a> '
        '<a href="#frames">frames</a> <a href="#records">records</a></nav>',
        f'<h1>Report</h1><p class="quiet">{_summary(records)}</p>',
        f'<div id="tables">{html_tables(grids, page_folder)}</div>',
        f'<section id="speed"><h2>Speed, memory, quality</h2>{"".join(_speeds(records))}</section>',
        f'<section id="sequences"><h2>Sequences, the worst first</h2>{"".join(_tables(records))}</section>',
        f'<section id="frames"><h2>Frames</h2>{"".join(map(_figure, figures))}{"".join(map(_note, notes))}</section>',
        f'<section id="records"><h2>Records</h2>{"".join(map(_record, records))}</section>',
    ]
    return document("Report", "\n".join(parts), SCRIPT.read_text(encoding="utf-8"))


def _summary(records: Sequence[ResultRecord]) -> str:
    methods = len({(record.method, record.variant) for record in records})
    places = len({(record.benchmark, record.split) for record in records})
    return f"{len(records)} records, {methods} methods and variants, {places} benchmarks"


def _note(text: str) -> str:
    return f'<p class="quiet">{escape(text)}</p>'


def _speeds(records: Sequence[ResultRecord]) -> list[str]:
    """Return a plot of quality over speed for each benchmark with measured speeds."""
    plots = []
    for (name, split, _), rows in by_benchmark(records).items():
        number = main_number(rows)
        timed = [row for row in rows if row.frames_per_second and not math.isnan(row.metrics[number])]
        points = [
            (row_name(row), row.frames_per_second or 0.0, 100 * row.metrics[number], row.peak_memory_mb)
            for row in timed
        ]
        if points:
            legend = _legend([point[0] for point in points])
            title = f"<figcaption>{escape(f'{name} {split}')}</figcaption>"
            plots.append(f"<figure>{title}{scatter(points, number)}{legend}</figure>")
    return plots


def _legend(names: Sequence[str]) -> str:
    items = (f'<li class="s{index % COLOURS}">{escape(name)}</li>' for index, name in enumerate(names))
    return f'<ul class="legend">{"".join(items)}</ul>'


def _tables(records: Sequence[ResultRecord]) -> list[str]:
    """Return a table of the scores of every sequence for each benchmark."""
    tables = []
    for (name, split, protocol), rows in by_benchmark(records).items():
        number = main_number(rows)
        heads = "".join(f"<th>{escape(row_name(row))}</th>" for row in rows)
        body = ""
        for video in worst_first(rows):
            values = [row.videos.get(video, {}).get(number, math.nan) for row in rows]
            cells = "".join(f"<td>{'' if math.isnan(value) else f'{100 * value:.1f}'}</td>" for value in values)
            body += f"<tr><td>{escape(video)}</td>{cells}</tr>\n"
        title = f"{escape(f'{name} {split}')}: {escape(number)} <span class='quiet'>protocol {escape(protocol)}</span>"
        table = f"<table><thead><tr><th>sequence</th>{heads}</tr></thead><tbody>{body}</tbody></table>"
        tables.append(f'<details open><summary>{title}</summary><div class="wide">{table}</div></details>')
    return tables


def _figure(figure: Figure) -> str:
    tiles = "".join(
        f'<div class="tile"><img src="{images[0]}" alt="{escape(name)}"><span>{escape(name)}'
        f"{_score(figure.scores.get(name))}</span></div>"
        for name, images in figure.images.items()
    )
    data = escape(json.dumps({"frames": figure.frames, "images": list(figure.images.values())}), quote=True)
    last = len(figure.frames) - 1
    slider = f'<input type="range" min="0" max="{last}" value="0" aria-label="frame"><output></output>'
    curve = lines(figure.curves)
    legend = _legend(list(figure.curves)) if curve else ""
    title = f"{figure.benchmark}: {figure.video}"
    return (
        f'<figure class="sequence" data-sequence="{data}"><figcaption>{escape(title)}</figcaption>'
        f'<div class="tiles">{tiles}</div><div class="slider">{slider}</div>{curve}{legend}</figure>'
    )


def _score(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f" <b>{value:.1f}</b>"


def _record(record: ResultRecord) -> str:
    data = {key: value for key, value in asdict(record).items() if key != "videos"}
    title = f"{row_name(record)} on {record.benchmark} {record.split}"
    text = escape(json.dumps(data, indent=1, default=str))
    return f"<details><summary>{escape(title)}</summary><pre>{text}</pre></details>"
