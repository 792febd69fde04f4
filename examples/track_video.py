"""Track targets in a video from Python.

Usage: python examples/track_video.py VIDEO first_mask.png OUTPUT

Any method is used in the same way; only the prompts that it takes differ (``session.kinds``). Where people go wrong:

- Palette PNGs. A mask file of DAVIS and the like holds target ids behind a palette. Opened as RGB it holds colours, and
  ``mask > 0`` joins all targets. ``read_label_map`` reads ids, and refuses an RGB image.
- RGB or BGR. Frames are RGB. OpenCV gives BGR: ``frame[..., ::-1].copy()`` first, or skin is blue.
- Resized masks. A mask has the size of the frame. Resize label maps with nearest neighbour, never bilinear: a blend of
  the ids 1 and 3 is 2, another target.
- Late targets. A target may join at any frame: give its prompt with that frame. Do not start a second session for it.
- Answers come when they are final, which may be later than their frame: use ``answer.frame``, not your loop's counter,
  and do not forget ``finish``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from common.video import Prompt, VideoFile, masks_from_labels, overlay, read_label_map, write_label_map, write_video
from methods.sam2long import SAM2Long


def main(video_path: str, mask_path: str, output: str) -> None:
    """Track what ``mask_path`` shows on the first frame; write palette PNGs and an overlay."""
    labels = read_label_map(mask_path)
    targets = [int(target) for target in labels.unique() if 0 < target < 255]  # 0 is background, 255 void
    prompts = [
        Prompt(target, mask=mask) for target, mask in zip(targets, masks_from_labels(labels, targets), strict=True)
    ]
    late: dict[int, list[Prompt]] = {}  # e.g. {40: [Prompt(7, box=(10, 20, 60, 90))]}: target 7 joins at frame 40

    device = "cuda" if torch.cuda.is_available() else "cpu"
    segmenter = SAM2Long(weights="nano").to(device).eval()  # or size="large", weights="sam2.1_hiera_large.pt"
    session = segmenter.session()
    video, shown, waiting = VideoFile(video_path), [], {}

    with torch.inference_mode():
        for index, frame in enumerate(video):
            waiting[index] = frame
            now = prompts if index == 0 else late.get(index, [])
            for answer in session.step(frame.to(device), now):
                shown.append(overlay(waiting.pop(answer.frame), answer))
                write_label_map(Path(output) / f"{answer.frame:05d}.png", answer.label_map().cpu())
        for answer in session.finish():
            shown.append(overlay(waiting.pop(answer.frame), answer))
            write_label_map(Path(output) / f"{answer.frame:05d}.png", answer.label_map().cpu())
    write_video(Path(output) / "overlay.mp4", shown, video.fps)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
