"""Tables as text, before they are rendered in a format."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

HEADLINE = (
    *("J&F", "J", "F", "G", "J&Fdot", "Fdot", "J&Fdot_d", "J&Fdot_r", "J_tr"),
    *("stAP25", "stAP", "stAP50", "stAP75", "tAP25", "tAP", "tAP50", "tAP75", "Rec", "Succ", "recovery", "success"),
    *("Quality", "Accuracy", "Robustness", "NRE", "DRE", "ADQ"),
    *("AP", "AP50", "AP75", "AR1", "AR10", "mIoU", "mVC8", "mVC16", "VPQ", "STQ", "HOTA", "DetA", "AssA"),
)
LOWER = {"NRE", "DRE"}  # metrics of which the lowest value is the best
MARK = "†"  # marks a row of numbers from a paper
MARK_NOTE = f"{MARK} as printed in the paper, not measured here."


@dataclass
class Cell:
    """One number of a table.

    Attributes:
        text: the number as shown; empty where there is none.
        best: whether it is the best measured number of its column.
        second: whether it is the second best measured number of its column.
        records: paths of the records it was computed from; a line of a ``.jsonl`` file ends in ``#L<number>``.
    """

    text: str = ""
    best: bool = False
    second: bool = False
    records: tuple[str, ...] = ()


@dataclass
class Row:
    """One row of a table.

    Attributes:
        method: method and variant.
        weights: where the weights come from, or the paper of a published row.
        cells: one a column.
        published: whether the numbers come from a paper.
    """

    method: str
    weights: str
    cells: list[Cell]
    published: bool = False


@dataclass
class Grid:
    """A table with its notes.

    Attributes:
        title: title of the table.
        heads: (benchmark and split, metric) of each column of cells.
        rows: rows from top to bottom.
        notes: sentences below the table.
        leading: heads of the two columns before the cells.
    """

    title: str
    heads: list[tuple[str, str]]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    leading: tuple[str, str] = ("method", "weights / paper")

    def by_place(self) -> list[Grid]:
        """Split the table into one for each benchmark, with the rows that have a number there."""
        grids = []
        for place in dict.fromkeys(place for place, _ in self.heads):
            columns = [n for n, head in enumerate(self.heads) if head[0] == place]
            rows = [replace(row, cells=[row.cells[n] for n in columns]) for row in self.rows]
            rows = [row for row in rows if any(cell.text for cell in row.cells)]
            title, heads = f"{self.title}: {place}".rstrip(": "), [("", self.heads[n][1]) for n in columns]
            grids += [Grid(title, heads, rows, leading=self.leading)] if rows else []
        grids[-1].notes = self.notes
        return grids


def headline(metrics: set[str]) -> list[str]:
    """Return the metrics that a table shows: those of ``HEADLINE``, or all where none is among them.

    Args:
        metrics: names of the metrics of a benchmark.
    """
    return [metric for metric in HEADLINE if metric in metrics] or sorted(metrics)
