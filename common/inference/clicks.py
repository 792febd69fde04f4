"""Simulated clicks: where an annotator would click to correct a mask."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from torch import Tensor

from common.inference.playback import prompts_by_frame
from common.inference.session import Session
from common.video import FrameMasks, Prompt, Video


def error_click(target: int, mask: Tensor, truth: Tensor) -> Prompt | None:
    """Return the click that corrects a mask most, as in the interactive protocol of SAM 2 (arXiv 2408.00714, F.1).

    It lies on the pixel of an error that is farthest from the error's edge, the frame's edge included: a positive click
    if the target is missed there, a negative one if the mask is wrong there. The first pixel of equals is taken, and of
    equally deep errors the missed one (the ``sam2`` package takes the wrong one).

    Args:
        target: id of the target.
        mask: bool (H, W).
        truth: bool (H, W).

    Returns:
        A prompt of one point at integer coordinates, as the package gives them; None where the mask is right.
    """
    depths = [_depth(truth & ~mask), _depth(mask & ~truth)]
    missed = depths[0].max() >= depths[1].max()
    depth = depths[0] if missed else depths[1]
    if not depth.any():
        return None
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return Prompt(target, points=torch.tensor([[float(x), float(y)]]), labels=torch.tensor([int(missed)]))


def _depth(region: Tensor) -> np.ndarray:
    """Distance of each pixel of a region bool (H, W) from the nearest pixel outside, 0 outside."""
    padded = np.pad(region.cpu().numpy().astype(np.uint8), 1)
    return cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]


def track_clicked(session: Session, video: Video, corrections: int, device: torch.device) -> Iterator[FrameMasks]:
    """Track the annotated targets of a video, each given by a click and then corrected on the same frame.

    The click lies where the target is deepest on the frame of its prompt; every correction is one ``error_click`` for
    each of the targets that are new on the frame.

    Args:
        session: new; it takes points, also as corrections, and answers every frame at once.
        video: with prompts, of which the frames alone count, and annotations of these frames.
        corrections: number of clicks after the first one.
        device: of the method.
    """
    assert video.truth is not None
    prompted = prompts_by_frame(video)
    for index, frame in enumerate(video):
        new = [prompt.target for prompt in prompted.get(index, ())]
        truth = dict(zip(video.targets, masks, strict=True)) if (masks := video.truth[index]) is not None else {}
        first = [error_click(target, torch.zeros_like(truth[target]), truth[target]) for target in new]
        (answer,) = session.step(frame.to(device), [click for click in first if click is not None])
        for _ in range(corrections if new else 0):
            clicks = [error_click(target, answer.select((target,))[0].cpu(), truth[target]) for target in new]
            if given := [click for click in clicks if click is not None]:
                answer = session.correct(given)
        yield answer
