"""Two videos: ``one`` with an object that vanishes and comes back, ``two`` with another that comes late."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.miniatures.drawing import SIZE, squares, write_frames, write_maps

FRAMES = 7
NAMES = [f"{n:05d}" for n in range(FRAMES)]
SPANS = {"one": {2: [0, 1, 4, 5, 6]}, "two": {1: range(7), 7: range(3, 7)}}


def make(root: Path, name: str) -> None:
    """``train`` with all annotations, ``valid`` and ``test`` with the first; v2 also says which objects there are."""
    for split in ("train", "valid", "test"):
        described = {}
        for video, spans in SPANS.items():
            maps = squares(FRAMES, spans)
            write_frames(root / split / "JPEGImages" / video, NAMES)
            shown = FRAMES if split == "train" else 1
            write_maps(root / split / "Annotations" / video, NAMES[:shown], maps[:shown])
            objects = [target for target, span in spans.items() if any(frame < shown for frame in span)]
            height, width = SIZE
            described[video] = {"length": FRAMES, "height": height, "width": width, "objects": objects}
        if name == "mosev2":
            (root / split / "meta.json").write_text(json.dumps({"videos": described}))
