"""Two sequences of two objects, one with void, and four sets of expressions as they come."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.support.miniatures.drawing import squares, write_frames, write_maps

FRAMES = 5
NAMES = [f"{n:05d}" for n in range(FRAMES)]
SPANS = {"classic-car": {1: range(5), 2: range(4)}, "two": {1: range(5), 2: [0, 1, 3, 4]}}
WRITTEN = {"classic-car": "clasic-car"}  # the files misspell it
SETS = ("Davis17_annot1", "Davis17_annot1_full_video", "Davis17_annot2", "Davis17_annot2_full_video")


def maps(video: str) -> torch.Tensor:
    """Label maps uint8 (T, H, W), with a column of void in one sequence."""
    out = squares(FRAMES, SPANS[video])
    if video == "two":
        out[:, :, 40:] = 255
    return out


def make(root: Path, name: str) -> None:
    """``val`` and ``train`` with the same sequences."""
    davis = root / "DAVIS"
    for video in SPANS:
        write_frames(davis / "JPEGImages" / "480p" / video, NAMES)
        write_maps(davis / "Annotations_unsupervised" / "480p" / video, NAMES, maps(video))
    (davis / "ImageSets" / "2017").mkdir(parents=True)
    for split in ("val", "train"):
        (davis / "ImageSets" / "2017" / f"{split}.txt").write_text("\n".join(SPANS) + "\n")
    (root / "davis_text_annotations").mkdir()
    for number, kind in enumerate(SETS):
        lines = [
            f'{WRITTEN.get(video, video)} {object} "caf\xe9 {object} of set {number}"'
            for video, spans in SPANS.items()
            for object in spans
        ]
        (root / "davis_text_annotations" / f"{kind}.txt").write_bytes("\n".join(lines).encode("latin-1"))
