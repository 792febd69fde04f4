"""A PUMaVOS of two small clips."""

from __future__ import annotations

from pathlib import Path

from tests.support.miniatures.davis import squares
from tests.support.miniatures.own_folder import write


def make(root: Path, name: str) -> None:
    """Write ``pumavos`` into ``root``."""
    write(root, "half_face", squares(5, (1,)), digits=7)
    write(root, "chair", squares(6, (1, 2)), digits=7)
