"""A table as text, whatever it is drawn with later."""

from __future__ import annotations

from dataclasses import dataclass, field

HEADLINE = ("J&F", "J", "F")
MARK = "†"  # of a row that was printed and not measured
MARK_NOTE = f"{MARK} as printed in the paper, not measured here."


@dataclass
class Cell:
    """One number as text; ``best`` of its column among what was measured."""

    text: str = ""
    best: bool = False


@dataclass
class Row:
    """One line: who, with which weights (or from which paper), the numbers."""

    method: str
    weights: str
    cells: list[Cell]
    published: bool = False


@dataclass
class Grid:
    """A table with its heads (those of the cells only) and what must be read with it."""

    title: str
    heads: list[str]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)


def shown(metrics: set[str]) -> list[str]:
    """The headline metrics, or all where a benchmark has none of them."""
    return [metric for metric in HEADLINE if metric in metrics] or sorted(metrics)
