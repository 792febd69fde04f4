"""Two videos: ``early``, whose object 3 comes late and leaves early, and ``late``, whose only object comes late."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from tests.support.miniatures.drawing import squares, write_frames, write_maps

FRAMES = 7  # released; every fifth of the source
NAMES = [f"{5 * n:05d}" for n in range(FRAMES)]
# of each video: id -> the frames that show it; ids leave gaps
SPANS = {"early": {1: range(7), 3: range(2, 5)}, "late": {5: range(1, 7)}}
CATEGORIES = {1: "dog", 3: "cat", 5: "cat"}


def make(root: Path, name: str, all_frames: bool = False) -> None:
    """``train`` with all annotations, ``valid`` and ``test`` with each object's first; at 6 and maybe at 30 fps."""
    assert name in ("youtubevos2018", "youtubevos2019")
    for split in ("train", "valid", "test"):
        described = {}
        for video, spans in SPANS.items():
            maps = squares(FRAMES, spans)
            write_frames(root / split / "JPEGImages" / video, NAMES)
            if all_frames:
                everything = [f"{n:05d}" for n in range(5 * FRAMES - 4)]
                write_frames(root / f"{split}_all_frames" / "JPEGImages" / video, everything)
            annotations, objects = root / split / "Annotations" / video, {}
            for target, span in spans.items():
                # What valid lists are the frames to predict, up to the end; train lists those that show the object.
                last = span[-1] if split == "train" else FRAMES - 1
                objects[str(target)] = {"frames": NAMES[span[0] : last + 1]}
                if split == "train":
                    objects[str(target)]["category"] = CATEGORIES[target]
                else:  # only the new id is in the label map
                    only_new = torch.where(maps[span[0]] == target, target, 0).to(torch.uint8)
                    write_maps(annotations, [NAMES[span[0]]], only_new[None])
            if split == "train":
                write_maps(annotations, NAMES, maps)
            described[video] = {"objects": objects}
        (root / split / "meta.json").write_text(json.dumps({"videos": described}))
