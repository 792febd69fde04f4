"""Two sequences: ``1_cut_onion`` with void and a later id, ``2_fold_cloth`` with frames that are not annotated."""

from __future__ import annotations

from pathlib import Path

from tests.support.miniatures.drawing import squares, write_frames, write_maps

FRAMES = 10
NAMES = [f"frame{12 * n + 1:05d}" for n in range(FRAMES)]
SKIPPED = (4, 7)


def make(root: Path, name: str) -> None:
    """``train`` and ``val``, a sequence each."""
    assert name == "vost"
    for split, video in (("train", "1_cut_onion"), ("val", "2_fold_cloth")):
        maps = squares(FRAMES, {1: range(FRAMES), 2: range(FRAMES)})
        annotated = list(range(FRAMES))
        if split == "train":
            maps[:, -3:, :20] = 255
            maps[3:, -1, -1] = 5
        else:
            annotated = [n for n in annotated if n not in SKIPPED]
        write_frames(root / "JPEGImages" / video, NAMES)
        write_maps(root / "Annotations" / video, [NAMES[n] for n in annotated], maps[annotated])
        (root / "ImageSets").mkdir(exist_ok=True)
        (root / "ImageSets" / f"{split}.txt").write_text(f"{video}\n")
