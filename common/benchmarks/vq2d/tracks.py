"""Tracks of boxes in VQ2D: annotated tracks, and boxes of predicted masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from common.errors import InputError
from common.video import FrameMasks, Video
from common.video.masks import boxes_from_masks

TARGET = 1
Size = tuple[int, ...]


class ResponseTrack:
    """Annotated track of one query, as filled masks bool (1, H, W); None on frames without annotation.

    Args:
        track: entries of ``response_track``.
        original: (H, W) of the original video, to which the boxes refer.
        size: (H, W) of the masks.
        where: location, for error messages.

    Attributes:
        boxes: float64 (K, 5), rows (frame, x0, y0, x1, y1) by ascending frame, in original pixels.
        frames: frame of each row.

    Raises:
        InputError: the track is empty, or has not one box per frame from its first to its last.
    """

    def __init__(self, track: list[dict[str, Any]], original: Size, size: Size, where: str) -> None:
        rows = [(b["frame_number"], b["x"], b["y"], b["x"] + b["width"], b["y"] + b["height"]) for b in track]
        self.boxes = torch.tensor(sorted(rows), dtype=torch.float64).reshape(-1, 5)
        self.frames = [int(frame) for frame in self.boxes[:, 0]]
        if not rows or self.frames != list(range(self.frames[0], self.frames[0] + len(rows))):
            raise InputError(f"{where}: response_track must have one box for each of its frames, not {self.frames}")
        self.original, self.size = original, size

    def __getitem__(self, frame: int) -> Tensor | None:
        row = frame - self.frames[0]
        if not 0 <= row < len(self.frames):
            return None
        return box_mask(scale_box(self.boxes[row, 1:], self.original, self.size), self.size)


class LastTrack:
    """Track of predicted boxes, built frame by frame: the last run of consecutive frames with a mask.

    Args:
        video: the query.
    """

    def __init__(self, video: Video) -> None:
        self.id: str = video.id
        self.original: Size = video.attributes["original_size"]
        self.sizes = {self.original, *(tuple(p.image.shape[:2]) for p in video.prompts if p.image is not None)}
        self.boxes: list[list[int]] = []
        self.scores: list[float] = []
        self.all_scores: list[float] = []

    def add(self, answer: FrameMasks) -> None:
        """Add the prediction of the next frame.

        Args:
            answer: the prediction.

        Raises:
            InputError: it has another size than the video, or its score is not finite.
        """
        size, where = tuple(answer.masks.shape[1:]), f"video {self.id}, frame {answer.frame}"
        if size not in self.sizes:
            sizes = " or ".join(map(str, sorted(self.sizes)))
            raise InputError(
                f"{where}: the answer is {size} but the video is {sizes}; answer at the video's resolution"
            )
        if TARGET not in answer.targets:
            return
        row = answer.targets.index(TARGET)
        score, box = float(answer.scores[row]), boxes_from_masks(answer.masks[row : row + 1])[0].cpu()
        if not math.isfinite(score):
            raise InputError(f"{where}: the score is {score}; tracks are sorted by it")
        self.all_scores.append(score)
        if box[2] == 0:
            return
        if self.boxes and self.boxes[-1][0] != answer.frame - 1:
            self.boxes, self.scores = [], []
        self.boxes.append([answer.frame, *scale_box(box, size, self.original)])
        self.scores.append(score)

    def result(self) -> tuple[Tensor, float]:
        """Return the track and its score.

        Returns:
            Boxes float64 (K, 5), rows (frame, x0, y0, x1, y1) in whole original pixels, and the mean score, rounded to
            float32 so that writing and reading a submission preserves it.
        """
        scores = torch.tensor(self.scores or self.all_scores or [0.0], dtype=torch.float64)
        return torch.tensor(self.boxes, dtype=torch.float64).reshape(-1, 5), scores.mean().float().item()


def scale_box(box: Tensor, size: Sequence[int], to: Sequence[int]) -> list[int]:
    """Scale a box to an image of another size and round it to whole pixels, halves up.

    Args:
        box: (x0, y0, x1, y1).
        size: (H, W) of its image.
        to: (H, W) of the other image.
    """
    factors = [to[1] / size[1], to[0] / size[0]] * 2
    return [math.floor(value * factor + 0.5) for value, factor in zip(box.tolist(), factors, strict=True)]


def box_mask(box: Sequence[int], size: Sequence[int]) -> Tensor:
    """Return the filled mask of a box, bool (1, H, W), clipped to the image.

    Args:
        box: (x0, y0, x1, y1) in whole pixels.
        size: (H, W) of the image.
    """
    height, width = size
    x0, y0, x1, y1 = (min(max(at, 0), end) for at, end in zip(box, (width, height) * 2, strict=True))
    mask = torch.zeros(1, *size, dtype=torch.bool)
    mask[0, y0:y1, x0:x1] = True
    return mask
