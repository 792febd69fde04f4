"""How fast clips are generated and how far their targets move: ``python benchmarks/clips_speed.py [--size 128]``.

Prints a row per preset: frames with their masks a second, training clips of 8 frames a second without and with
augmentation, all on one thread, and the J of an answer that copies the first mask 5 and 8 frames later.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.data import Augmentation, ClipDataset
from common.metrics import region_similarity
from common.synthetic import PRESETS, SyntheticClips


def frames_per_second(clips: SyntheticClips, videos: int = 12, frames: int = 24) -> float:
    """Frames with masks, the drawing of scenes included."""
    start = time.perf_counter()
    for index in range(videos):
        video = clips[index]
        for t in range(frames):
            video[t], video.truth[t]  # type: ignore[index]
    return videos * frames / (time.perf_counter() - start)


def clips_per_second(clips: SyntheticClips, augment: Augmentation | None, number: int = 60) -> float:
    """Training clips of 8 frames."""
    dataset = ClipDataset(clips, frames=8, max_skip=2, size=clips.size, augment=augment)
    start = time.perf_counter()
    for index in range(number):
        dataset[index]
    return number / (time.perf_counter() - start)


def copied(clips: SyntheticClips, later: int, videos: int = 100) -> float:
    """Mean J of the first-appearance mask held against the truth ``later`` frames on, where the target still shows."""
    scores = []
    for index in range(videos):
        video = clips[index]
        for row, prompt in enumerate(video.prompts):
            t = prompt.frame + later
            if t < len(video) and (truth := video.truth[t][row]).any():  # type: ignore[index]
                scores.append(float(region_similarity(prompt.mask, truth)))
    return sum(scores) / len(scores)


def main() -> None:
    """Print the table as markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128, help="side of the frames in pixels")
    size = parser.parse_args().size
    torch.set_num_threads(1)
    print("| preset | frames/s | clips/s | clips/s, augmented | J copied, +5 | J copied, +8 |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for preset in PRESETS:
        clips = SyntheticClips(preset, size=(size, size))
        cells = [
            f"{frames_per_second(clips):.0f}",
            f"{clips_per_second(clips, None):.0f}",
            f"{clips_per_second(clips, Augmentation()):.0f}",
            f"{copied(clips, 5):.2f}",
            f"{copied(clips, 8):.2f}",
        ]
        print(f"| {preset} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
