"""A Long Video Dataset of two videos, of which every fourth frame is annotated."""

from __future__ import annotations

from pathlib import Path

from tests.support.miniatures.davis import squares
from tests.support.miniatures.own_folder import write

STEP = 4


def make(root: Path, name: str) -> None:
    """Write ``longvideo`` into ``root``."""
    for video, length in (("rat", 13), ("blueboy", 9)):
        write(root, video, squares(length, (1,)))
        for path in (root / "Annotations" / video).iterdir():
            if int(path.stem) % STEP:
                path.unlink()
