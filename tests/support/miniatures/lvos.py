"""Two videos: ``park``, whose object 2 comes late, and ``pool``, which is unseen and empty at first."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.miniatures.drawing import squares, write_frames, write_maps

FRAMES = 8
NAMES = [f"{1 + 5 * n:08d}" for n in range(FRAMES)]
SPANS = {"park": {1: range(8), 2: range(3, 8)}, "pool": {4: range(2, 8)}}


def make(root: Path, name: str) -> None:
    """``train`` and ``valid`` with all annotations, ``test`` with each object's first, and the list of the unseen."""
    assert name in ("lvosv1", "lvosv2")
    for split in ("train", "valid", "test"):
        described = {}
        for video, spans in SPANS.items():
            maps = squares(FRAMES, spans)
            write_frames(root / split / "JPEGImages" / video, NAMES)
            starts = sorted(span[0] for span in spans.values())
            annotated = starts if split == "test" else range(starts[0], FRAMES)
            for frame in annotated:
                write_maps(root / split / "Annotations" / video, [NAMES[frame]], maps[frame : frame + 1])
            described[video] = {
                "objects": {
                    str(target): {
                        "frame_range": {
                            "start": str(int(NAMES[span[0]])),
                            "end": str(int(NAMES[span[-1]])),
                            "frame_nums": str(len(span)),
                        }
                    }
                    for target, span in spans.items()
                }
            }
        (root / f"{split}_meta.json").write_text(json.dumps({"videos": described}))
    (root / "unseen_videos.txt").write_text("pool\nelsewhere\n")
