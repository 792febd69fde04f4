"""Two videos: ``early``, a thing and stuff of which another thing comes late, and ``late``, with objects all unseen."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.miniatures.drawing import squares, write_frames, write_maps

FRAMES = 5
NAMES = [f"{n:05d}" for n in range(FRAMES)]
SPANS = {"early": {1: range(5), 4: range(5), 2: range(2, 5)}, "late": {3: range(1, 5), 7: range(5)}}
# classes of VIPSeg: 41 and 82 are seen things, 1 seen stuff, 46 an unseen thing, 5 unseen stuff
CLASSES = {"early": {1: 41, 4: 1, 2: 82}, "late": {3: 46, 7: 5}}


def make(root: Path, name: str) -> None:
    """Write ``valid``, with complete annotations beside the given ones, and ``train``."""
    for split in ("train", "valid"):
        for video, spans in SPANS.items():
            maps = squares(FRAMES, dict(sorted(spans.items())), size=(40, 48))
            write_frames(root / split / "JPEGImages" / video, NAMES, (40, 48))
            complete = "Annotations" if split == "train" else "Annotations_gt"
            write_maps(root / split / complete / video, NAMES, maps)
            if split == "valid":
                first = sorted({span[0] for span in spans.values()})
                write_maps(root / split / "Annotations" / video, [NAMES[frame] for frame in first], maps[first])
        (root / split / "obj_class.json").write_text(json.dumps(CLASSES))
