"""The page of measured results; ``python -m common.leaderboard.results_page`` writes docs/results.md from results/."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from common.files import write_text
from common.leaderboard.claims import Verdict, claims, claims_grid
from common.leaderboard.collect import LINES, METHODS, collect
from common.leaderboard.command import RESULTS
from common.leaderboard.grid import Cell, Grid, Row
from common.leaderboard.render import markdown
from common.leaderboard.table import table

PAGE = RESULTS.parent / "docs" / "results.md"
HEAD = """\
# Results

`python -m common.leaderboard.results_page` generates this page from the records in [results/](../results). A number
links to the line of its record, which has the settings, the weights with their checksum, the scores of every video,
machine, versions, commit and seed; a mean over seeds is followed by a link for each seed. The best number of a column
is bold, the second in italics. `python cli.py leaderboard results/demo.jsonl` prints a table with all its metrics;
`--papers` adds the published numbers.

All networks here are nano networks of one to three million parameters, trained on generated clips and, for DAVIS, on
DAVIS train. The numbers compare settings of this suite with each other and say little about the published networks.
"""


@dataclass(frozen=True)
class Section:
    """One table of the page.

    Attributes:
        title: head of the section.
        text: how the numbers were measured.
        plans: names of the files in ``results`` without suffix.
        columns: metrics and costs that are shown.
        benchmarks: ids of the benchmarks that are shown; empty = all.
    """

    title: str
    text: str
    plans: tuple[str, ...]
    columns: frozenset[str]
    benchmarks: tuple[str, ...] = ()


SECTIONS = (
    Section(
        "Demo",
        """\
The table of `make demo`. Each method is fine-tuned from its committed nano weights for 40 to 200 steps and tested on
held-out generated videos. The trainings and their data differ (VQ-SAM is trained on visual queries, UniVS on six
tasks), so the table ranks the weights of this repository, not the methods.
Plan: [tiny.yaml](../configs/leaderboards/tiny.yaml).""",
        ("demo",),
        frozenset({"J&F", "frames/s", "params M"}),
    ),
    Section(
        "DAVIS 2016",
        """\
DAVIS 2016 val, all 20 sequences, after 120 to 450 steps on DAVIS train with generated clips mixed in
(`configs/*/nano_davis.yaml`). Frames are read at 256 pixels, by DeAOT and HQ-SMem with a long side of 432, and masks
are scored at 480p. The speeds of SSLVOS, Cutie, DeAOT and HQ-SMem were measured on a busy machine.
Plan: [davis2016.yaml](../configs/leaderboards/davis2016.yaml).""",
        ("davis2016", "sslvos"),
        frozenset({"J&F", "J", "F", "frames/s", "params M"}),
        ("davis2016",),
    ),
    Section(
        "Six tasks",
        """\
UniVS nano, one network with its committed weights, and trivial baselines on VOS (tiny-easy), PVOS, RefVOS, VIS, VPS
and VSS. Plan: [six_tasks.yaml](../configs/leaderboards/six_tasks.yaml).
Details: [UniVS](../methods/univs/README.md#results).""",
        ("six_tasks",),
        frozenset({"J&F", "G", "AP", "VPQ", "mIoU"}),
    ),
    Section(
        "Visual queries",
        """\
24 generated videos with a query image from outside the video each. The rows "trained here" were trained for 240 steps
from the same nano weights. Details: [VQ-SAM](../methods/vqsam/README.md#results).""",
        ("vqsam",),
        frozenset({"stAP", "tAP", "frames/s"}),
    ),
)
CLAIMS = """\
## Claims

The comparisons of each paper that can be made with nano networks ([claims](leaderboard.md#claims)). The interval and
the verdict are about the mechanism at that size on generated videos."""


def page(results: Path = RESULTS, methods: Path = METHODS, page_folder: Path = PAGE.parent) -> str:
    """Return the page as Markdown.

    Args:
        results: folder of the records.
        methods: folder of the methods, which have the claims.
        page_folder: folder of the page, which links are relative to.

    Raises:
        InputError: a file of records is missing or damaged.
    """
    parts = [HEAD.strip()]
    for section in SECTIONS:
        parts += [f"## {section.title}", section.text, markdown([_grid(section, results)], page_folder).strip()]
    grid = claims_grid(claims(methods), collect([results]))
    parts += [CLAIMS, markdown([_summary(grid)]).strip(), markdown([replace(grid, title="All claims")]).strip()]
    return "\n\n".join(parts) + "\n"


def _grid(section: Section, results: Path) -> Grid:
    """Return the table of a section: the columns to show, and the rows that have a number in one of them."""
    (grid,) = table(collect([results / f"{plan}{LINES}" for plan in section.plans]), (), section.benchmarks)
    columns = [number for number, (_, name) in enumerate(grid.heads) if name in section.columns]
    rows = [replace(row, cells=[row.cells[number] for number in columns]) for row in grid.rows]
    rows = [row for row in rows if any(cell.text for cell in row.cells)]
    return replace(grid, title="", heads=[grid.heads[number] for number in columns], rows=rows)


def _summary(grid: Grid) -> Grid:
    """Return the number of claims of each method with each verdict."""
    counts: dict[str, Counter[str]] = {}
    for row in grid.rows:
        counts.setdefault(row.weights, Counter())[row.cells[-1].text] += 1
    verdicts = get_args(Verdict)
    rows = [_row(name, [count[verdict] for verdict in verdicts]) for name, count in counts.items()]
    rows.append(_row("all", [sum(count[verdict] for count in counts.values()) for verdict in verdicts]))
    return Grid("Verdicts", [("", verdict) for verdict in verdicts], rows, leading=("method", "claims"))


def _row(name: str, counts: Sequence[int]) -> Row:
    return Row(name, str(sum(counts)), [Cell(str(count)) for count in counts])


if __name__ == "__main__":
    write_text(PAGE, page())
