"""Training clips with categories or expressions, as a task needs them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.data.clip import Clip
from common.data.clips import STARTS, VIDEOS, ClipDataset, VideoSet, resized_masks
from common.data.scale_jitter import ScaleJitter
from common.errors import InputError
from common.video import Video
from common.video.task_views import as_instances, as_panoptic, as_semantic

# What a clip of each task carries; RefVOS: one expression of each object, the others: masks alone.
VIEWS: dict[str, Callable[[Video], Video]] = {"VIS": as_instances, "VPS": as_panoptic, "VSS": as_semantic}
TASKS = ("VOS", "PVOS", "RefVOS", *VIEWS)
TRIES = 5  # changes of a clip that are tried before one that loses all targets is given up
SIDES = {"left": "right", "right": "left"}


class LabelledItem(NamedTuple):
    """One clip.

    Attributes:
        frames: uint8 (T, 3, H, W).
        masks: bool (T, N, H, W), each target in some frame at least.
        categories: int64 (N,), or None.
        expressions: N texts, or None.
        vocabulary: see ``Clip``.
        stuff: see ``Clip``.
        times: of the frames in the video, T of them.
    """

    frames: Tensor
    masks: Tensor
    categories: Tensor | None
    expressions: list[str] | None
    vocabulary: tuple[str, ...]
    stuff: tuple[str, ...]
    times: list[int]


class LabelledClips(ClipDataset):
    """Clips for one task, each a function of (seed, epoch, index) alone.

    Targets, at most ``max_objects`` of them, show in some frame, whichever. With ``window`` the frames are drawn with
    replacement within so many of a reference frame and put in order, as UniVS trains; otherwise see ``ClipDataset``.
    A still, a video of one frame, gives a clip that repeats it.

    Args:
        videos: annotated videos; with categories for VIS, VPS and VSS, with expressions for RefVOS.
        arguments: those of ``ClipDataset``, without ``augment``.
        task: one of ``TASKS``.
        window: annotated frames to each side of the reference frame.
        jitter: changes each clip, and exchanges left and right in expressions where it mirrors.

    Raises:
        InputError: an unknown task, a video without what the task needs, or no target in ``VIDEOS`` videos.
    """

    def __init__(
        self,
        videos: VideoSet,
        *arguments: Any,
        task: str,
        window: int | None = None,
        jitter: ScaleJitter | None = None,
        **named: Any,
    ) -> None:
        super().__init__(videos, *arguments, **named)
        if task not in TASKS:
            raise InputError(f"task {task!r} of a training set is unknown; choose from {', '.join(TASKS)}")
        self.task, self.window, self.jitter = task, window, jitter

    def __getitem__(self, index: int) -> LabelledItem:  # type: ignore[override]
        if not 0 <= index < self.length:
            raise IndexError(f"clip {index} of {self.length}")
        rng = np.random.default_rng((self.seed, self.epoch, index))
        number = self.epoch * self.length + index
        for step in range(VIDEOS):
            video = self.videos[(number + step) % len(self.videos)]
            video = VIEWS[self.task](video) if self.task in VIEWS else video
            for _ in range(STARTS if video.targets else 0):
                item = self._item(video, rng)
                if item is not None:
                    return item
        raise InputError(f"{video.id}: no clip of it shows a target to train on, nor of the videos before it")

    def _item(self, video: Video, rng: np.random.Generator) -> LabelledItem | None:
        """A clip of a video; None where no target shows in it."""
        rows = self._rows(video, rng)
        annotated = range(len(video)) if video.annotated is None else video.annotated
        times = [annotated[place] for place in self._times(len(annotated), rng)]
        masks = torch.stack([self._true(video, time)[rows] for time in times])
        chosen = np.flatnonzero(_shows(masks).numpy())
        chosen = np.sort(rng.permutation(chosen)[: self.max_objects])
        if not len(chosen):
            return None
        frames, masks, flipped = self._changed(video, times, masks[:, chosen], rng)
        shown = _shows(masks)
        targets = [video.targets[rows[place]] for place, stays in zip(chosen, shown.tolist(), strict=True) if stays]
        if not targets:
            return None
        named = self.task in VIEWS
        return LabelledItem(
            frames,
            masks[:, shown],
            torch.tensor([video.categories[target] for target in targets]) if named else None,
            [_said(video, target, flipped, rng) for target in targets] if self.task == "RefVOS" else None,
            video.vocabulary if named else (),
            video.stuff if named else (),
            times,
        )

    def _rows(self, video: Video, rng: np.random.Generator) -> list[int]:
        """Rows of the targets that may be chosen; where several are one object (RefVOS), one of them."""
        if self.task != "RefVOS":
            return list(range(len(video.targets)))
        if not video.expressions:
            raise InputError(f"{video.id}: no expressions; train RefVOS on videos that have them")
        of = video.attributes.get("objects", {})
        objects: dict[object, list[int]] = {}
        for row, target in enumerate(video.targets):
            if video.expressions.get(target):
                objects.setdefault(of.get(target, target), []).append(row)
        return [rows[int(rng.integers(len(rows)))] for rows in objects.values()]

    def _times(self, length: int, rng: np.random.Generator) -> list[int]:
        if self.window is None:
            return super()._times(length, rng)
        reference = int(rng.integers(length))
        first, last = max(0, reference - self.window), min(length - 1, reference + self.window)
        return sorted([reference, *rng.integers(first, last + 1, self.frames - 1).tolist()])

    def _true(self, video: Video, time: int) -> Tensor:
        """Masks bool (N, H, W) at the video's size."""
        masks = video.truth[time] if video.truth is not None else None
        if masks is None:
            raise InputError(f"{video.id}: frame {video.name(time)} has no annotation; train on annotated videos only")
        return masks

    def _changed(
        self, video: Video, times: list[int], masks: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, bool]:
        """Frames and masks at the clip's size, and whether they are mirrored."""
        if self.jitter is None:
            resized = resized_masks(masks.flatten(0, 1), self.size).unflatten(0, masks.shape[:2])
            return self._frames(video, times), resized, False
        frames = torch.stack([video[time].permute(2, 0, 1) for time in times])
        for _ in range(TRIES):
            changed = self.jitter(frames, masks, self.size, rng)
            if _shows(changed[1]).any():
                break
        return changed


def _shows(masks: Tensor) -> Tensor:
    """Which targets of masks (T, N, H, W) are in any frame, bool (N,)."""
    return masks.any(3).any(2).any(0)


def _said(video: Video, target: int, flipped: bool, rng: np.random.Generator) -> str:
    """One of a target's expressions; in a mirrored clip left is right."""
    texts = video.expressions[target]
    text = texts[int(rng.integers(len(texts)))]
    return re.sub("left|right", lambda match: SIDES[match[0]], text) if flipped else text


def collate_labelled(items: Sequence[LabelledItem]) -> Clip:
    """Put clips of one data set into a batch. Rows that only fill up are False in ``valid``; smaller frames are padded.

    Raises:
        InputError: clips with different vocabularies.
    """
    first, most = items[0], max(item.masks.shape[1] for item in items)
    height, width = (max(item.frames.shape[axis] for item in items) for axis in (2, 3))
    frames, masks, valid, categories = [], [], [], []
    for item in items:
        if (item.vocabulary, item.stuff) != (first.vocabulary, first.stuff):
            raise InputError("the clips of a batch have different vocabularies; a training set must have one")
        more, beyond = most - item.masks.shape[1], (0, width - item.frames.shape[3], 0, height - item.frames.shape[2])
        frames.append(F.pad(item.frames, beyond))
        masks.append(F.pad(item.masks, (*beyond, 0, more)))
        valid.append(torch.arange(most) < item.masks.shape[1])
        if item.categories is not None:
            categories.append(F.pad(item.categories, (0, more), value=-1))
    said = [item.expressions + [""] * (most - len(item.expressions)) for item in items if item.expressions is not None]
    return Clip(
        torch.stack(frames),
        torch.stack(masks),
        torch.stack(valid),
        categories=torch.stack(categories) if categories else None,
        expressions=said or None,
        vocabulary=first.vocabulary,
        stuff=first.stuff,
        times=torch.tensor([item.times for item in items]),
    )
