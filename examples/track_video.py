"""Track targets in a video from Python.

Usage: python examples/track_video.py VIDEO first_mask.png OUTPUT

All methods are used in the same way; they differ in the prompts that they accept (``session.kinds``). Common mistakes:

- Palette PNGs. Mask files of DAVIS and similar data sets store target ids with a palette. If one is opened as RGB, it
  contains colours, and ``mask > 0`` merges all targets. ``read_label_map`` reads the ids and refuses RGB images.
- RGB or BGR. Frames are RGB. OpenCV returns BGR: convert with ``frame[..., ::-1].copy()``.
- Resized masks. A mask must have the size of the frame. Resize label maps with nearest neighbour, not bilinear: the
  mean of the ids 1 and 3 is 2, another target.
- Late targets. A target may be added on any frame: pass its prompt with that frame, in the same session.
- Delayed answers. Answers are returned when they are final, which may be several frames later: use ``answer.frame``
  instead of a loop counter, and call ``finish`` at the end.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from common.video import Prompt, VideoFile, masks_from_labels, overlay, read_label_map, write_label_map, write_video
from methods.sam2long import SAM2Long


def main(video_path: str, mask_path: str, output: str) -> None:
    """Track the targets of a first mask; write palette PNGs and an overlay video.

    Args:
        video_path: video file.
        mask_path: palette PNG with the targets on the first frame.
        output: folder for the results.
    """
    labels = read_label_map(mask_path)
    targets = [int(target) for target in labels.unique() if 0 < target < 255]  # 0 is background, 255 void
    prompts = [
        Prompt(target, mask=mask) for target, mask in zip(targets, masks_from_labels(labels, targets), strict=True)
    ]
    late: dict[int, list[Prompt]] = {}  # e.g. {40: [Prompt(7, box=(10, 20, 60, 90))]} adds target 7 on frame 40

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
