"""BURST as ``burst`` has it, in ``val`` and ``train``, with the list of common and uncommon classes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.support.miniatures import burst_layout


def make(root: Path, name: str) -> None:
    """Write ``train``, copy it to ``val``, and say which classes are common."""
    burst_layout.make(root)
    shutil.copytree(root / "frames" / "train", root / "frames" / "val")
    (root / "annotations" / "val").mkdir()
    shutil.copy(root / "annotations" / "train" / "train.json", root / "annotations" / "val" / "all_classes.json")
    (root / "annotations" / "info").mkdir()
    (root / "annotations" / "info" / "class_split.json").write_text(json.dumps({"common": [805], "uncommon": [3]}))
