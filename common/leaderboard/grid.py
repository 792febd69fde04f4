"""A table as text, whatever it is drawn with later."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

HEADLINE = (
    *("J&F", "J", "F", "G", "J&Fdot", "Fdot", "J&Fdot_d", "J&Fdot_r", "J_tr"),
    *("stAP25", "stAP", "stAP50", "stAP75", "tAP25", "tAP", "tAP50", "tAP75", "Rec", "Succ", "recovery", "success"),
    *("Quality", "Accuracy", "Robustness", "NRE", "DRE", "ADQ"),
    *("AP", "AP50", "AP75", "AR1", "AR10", "mIoU", "mVC8", "mVC16", "VPQ", "STQ", "HOTA", "DetA", "AssA"),
)
LOWER = {"NRE", "DRE"}  # of these the lowest is the best
MARK = "†"  # of a row that was printed and not measured
MARK_NOTE = f"{MARK} as printed in the paper, not measured here."


@dataclass
class Cell:
    """One number as text; ``best`` or ``second`` of its column among what was measured, and the records behind it."""

    text: str = ""
    best: bool = False
    second: bool = False
    records: tuple[str, ...] = ()


@dataclass
class Row:
    """One line: who, with which weights (or from which paper), the numbers."""

    method: str
    weights: str
    cells: list[Cell]
    published: bool = False


@dataclass
class Grid:
    """A table and what must be read with it. The head of a column of cells is (what was measured on, the number)."""

    title: str
    heads: list[tuple[str, str]]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    leading: tuple[str, str] = ("method", "weights / paper")

    def by_place(self) -> list[Grid]:
        """A narrow grid for each place, with the rows that say something there."""
        grids = []
        for place in dict.fromkeys(place for place, _ in self.heads):
            columns = [n for n, head in enumerate(self.heads) if head[0] == place]
            rows = [replace(row, cells=[row.cells[n] for n in columns]) for row in self.rows]
            rows = [row for row in rows if any(cell.text for cell in row.cells)]
            title, heads = f"{self.title}: {place}".rstrip(": "), [("", self.heads[n][1]) for n in columns]
            grids += [Grid(title, heads, rows, leading=self.leading)] if rows else []
        grids[-1].notes = self.notes
        return grids


def shown(metrics: set[str]) -> list[str]:
    """The headline metrics, or all where a benchmark has none of them."""
    return [metric for metric in HEADLINE if metric in metrics] or sorted(metrics)
