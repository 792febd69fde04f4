"""Two videos of ``train``, one object with two expressions; ``valid`` lists one of its own and one of ``test``."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.miniatures.drawing import squares, write_frames, write_maps

FRAMES = 6
NAMES = [f"{5 * n:05d}" for n in range(FRAMES)]
SPANS = {"fox": {1: range(6), 4: range(2, 6)}, "owl": {2: range(5)}}
SAID = {"fox": [("0", "a fox on the left", 4), ("1", "the fox", 4), ("2", "a hen", 1)], "owl": [("0", "an owl", 2)]}


def make(root: Path, name: str) -> None:
    """``train`` with annotations; ``valid`` and ``test`` with expressions alone."""
    for video, spans in SPANS.items():
        write_frames(root / "train" / "JPEGImages" / video, NAMES)
        write_maps(root / "train" / "Annotations" / video, NAMES, squares(FRAMES, spans))
        write_frames(root / "valid" / "JPEGImages" / f"{video}-valid", NAMES)
    for split, videos in (("train", ["fox", "owl"]), ("valid", ["fox", "owl"]), ("test", ["owl"])):
        said = {
            video if split == "train" else f"{video}-valid": {
                "frames": NAMES,
                "expressions": {
                    number: {"exp": text, **({"obj_id": str(id)} if split == "train" else {})}
                    for number, text, id in SAID[video]
                },
            }
            for video in videos
        }
        path = root / "meta_expressions" / split / "meta_expressions.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"videos": said}))
