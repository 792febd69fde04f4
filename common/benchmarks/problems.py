"""One thing that is wrong with a data set."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One line about one culprit.

    Attributes:
        kind: what the problems are counted by, e.g. ``missing frame``.
        text: ``<file or frame>: <what is wrong>``.
    """

    kind: str
    text: str

    @property
    def culprit(self) -> str:
        """The file or frame."""
        return self.text.split(": ")[0]
