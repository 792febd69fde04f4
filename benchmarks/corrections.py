"""What one correction click does for SAM 2 on generated clips: IoU on the clicked frame and on those after it.

    python benchmarks/corrections.py --clips 10 [--config configs/sam2long/real.yaml --weights FILE]

One target of each clip is given by its mask on frame 0. On frame 6 of 12 a click is put into the larger error, positive
or negative, at the pixel farthest from its border. The rows are: no click; a click whose memory stays among those of
tracked frames, as in the ``sam2`` package; one that makes the frame a prompted one (``corrections_as_prompts``).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import Tensor

from common.cli.build import build_method
from common.inference.clicks import error_click
from common.nn.sam2.postprocess import PLAIN
from common.synthetic import SyntheticClips
from common.video import Prompt, Video
from methods.sam2long import SAM2Long
from methods.sam2long.picks import TreeSettings
from methods.sam2long.session import SAM2LongSession

FRAMES, AT, SEED = 12, 6, 20001
SAM2_TREE = TreeSettings(pathways=1, modulation=None, selection=False)
ROWS = {"no click": None, "click": PLAIN, "click, as a prompt": replace(PLAIN, corrections_as_prompts=True)}


def iou(a: Tensor, b: Tensor) -> float:
    """IoU of two masks (H, W), 1 where both are empty."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def run(model: SAM2Long, video: Video, row: str) -> tuple[float, float]:
    """IoU on the clicked frame, and the mean over the later frames that show the target."""
    options = ROWS[row]
    truth = [frame[0].bool() for frame in video.truth]
    session = SAM2LongSession(model.network, SAM2_TREE, 0, len(video), options or PLAIN)
    masks: list[Tensor] = []
    for index, frame in enumerate(video):
        (answer,) = session.step(frame, [Prompt(1, mask=truth[0])] if index == 0 else [])
        if index == AT and options is not None:
            click = error_click(1, answer.masks[0], truth[AT])
            answer = answer if click is None else session.correct([click])
        masks.append(answer.masks[0])
    later = [iou(masks[t], truth[t]) for t in range(AT + 1, FRAMES) if truth[t].any()]
    return iou(masks[AT], truth[AT]), float(np.mean(later)) if later else float("nan")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=10)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--weights")
    args = parser.parse_args()
    model = build_method("sam2long", args.weights, [args.config] if args.config else ()).eval()
    assert isinstance(model, SAM2Long)
    for preset in ("easy", "occlusion", "distractor"):
        clips = SyntheticClips(preset, length=args.clips, frames=FRAMES, objects=1, seed=SEED)
        shown = [
            video for video in (clips[i] for i in range(args.clips)) if video.truth[0].any() and video.truth[AT].any()
        ]
        for row in ROWS:
            values = np.array([run(model, video, row) for video in shown])
            print(
                f"{preset:11} {row:20} n {len(shown):3}  {values[:, 0].mean():.3f}  {np.nanmean(values[:, 1]):.3f}",
                flush=True,
            )


if __name__ == "__main__":
    with torch.inference_mode():
        main()
