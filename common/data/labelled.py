"""Training clips with categories or expressions for a task."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.data.clip import Clip
from common.data.clips import STARTS, VIDEOS, ClipDataset, VideoSet, resize_masks
from common.data.scale_jitter import ScaleJitter
from common.errors import InputError
from common.video import Video
from common.video.task_views import as_instances, as_panoptic, as_semantic

# Tasks whose clips have categories; clips of RefVOS have one expression per object, those of VOS and PVOS only masks.
VIEWS: dict[str, Callable[[Video], Video]] = {"VIS": as_instances, "VPS": as_panoptic, "VSS": as_semantic}
TASKS = ("VOS", "PVOS", "RefVOS", *VIEWS)
TRIES = 5  # augmentations tried before a clip that loses all targets is discarded
SIDES = {"left": "right", "right": "left"}


class LabelledItem(NamedTuple):
    """One clip.

    Attributes:
        frames: uint8 (T, 3, H, W).
        masks: bool (T, N, H, W), each target visible in at least one frame.
        categories: int64 (N,), or None.
        expressions: N texts, or None.
        vocabulary: see ``Clip``.
        stuff: see ``Clip``.
        times: frame indices in the video, T of them.
    """

    frames: Tensor
    masks: Tensor
    categories: Tensor | None
    expressions: list[str] | None
    vocabulary: tuple[str, ...]
    stuff: tuple[str, ...]
    times: list[int]


class LabelledClips(ClipDataset):
    """Clips for one task, deterministic in (seed, epoch, index).

    Targets, at most ``max_objects``, are visible in any frame of the clip. With ``window`` the frames are drawn with
    replacement around a reference frame and sorted, as in UniVS; otherwise see ``ClipDataset``. A still image, i.e. a
    video of one frame, gives a clip that repeats it.

    Args:
        videos: annotated videos; with categories for VIS, VPS and VSS, with expressions for RefVOS.
        arguments: positional arguments of ``ClipDataset``, without ``augment``.
        task: one of ``TASKS``.
        window: number of annotated frames on each side of the reference frame.
        jitter: augmentation; if it mirrors a clip, left and right are exchanged in expressions.
        named: keyword arguments of ``ClipDataset``.

    Raises:
        InputError: the task is unknown, a video lacks categories or expressions, or no clip of ``VIDEOS`` consecutive
            videos shows a target.
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
        """Sample a clip of a video; None if no target is visible in it."""
        rows = self._rows(video, rng)
        annotated = range(len(video)) if video.annotated is None else video.annotated
        times = [annotated[index] for index in self._times(len(annotated), rng)]
        masks = torch.stack([self._true_masks(video, time)[rows] for time in times])
        columns = np.flatnonzero(_visible(masks).numpy())
        columns = np.sort(rng.permutation(columns)[: self.max_objects])
        if not len(columns):
            return None
        frames, masks, flipped = self._augment_clip(video, times, masks[:, columns], rng)
        visible = _visible(masks)  # the augmentation may have moved targets out of all frames
        targets = [video.targets[rows[k]] for k, remains in zip(columns, visible.tolist(), strict=True) if remains]
        if not targets:
            return None
        has_categories = self.task in VIEWS
        return LabelledItem(
            frames,
            masks[:, visible],
            torch.tensor([video.categories[target] for target in targets]) if has_categories else None,
            [_draw_expression(video, target, flipped, rng) for target in targets] if self.task == "RefVOS" else None,
            video.vocabulary if has_categories else (),
            video.stuff if has_categories else (),
            times,
        )

    def _rows(self, video: Video, rng: np.random.Generator) -> list[int]:
        """Return the rows of the candidate targets; for RefVOS, one random expression per object."""
        if self.task != "RefVOS":
            return list(range(len(video.targets)))
        if not video.expressions:
            raise InputError(f"{video.id}: no expressions; train RefVOS on videos that have them")
        object_ids = video.attributes.get("objects", {})
        objects: dict[object, list[int]] = {}
        for row, target in enumerate(video.targets):
            if video.expressions.get(target):
                objects.setdefault(object_ids.get(target, target), []).append(row)
        return [rows[int(rng.integers(len(rows)))] for rows in objects.values()]

    def _times(self, length: int, rng: np.random.Generator) -> list[int]:
        if self.window is None:
            return super()._times(length, rng)
        reference = int(rng.integers(length))
        first, last = max(0, reference - self.window), min(length - 1, reference + self.window)
        return sorted([reference, *rng.integers(first, last + 1, self.frames - 1).tolist()])

    def _true_masks(self, video: Video, time: int) -> Tensor:
        """Return the annotated masks bool (N, H, W) at the video's size."""
        masks = video.truth[time] if video.truth is not None else None
        if masks is None:
            raise InputError(f"{video.id}: frame {video.name(time)} has no annotation; train on annotated videos only")
        return masks

    def _augment_clip(
        self, video: Video, times: list[int], masks: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, bool]:
        """Return frames and masks at the clip's size, and whether they are mirrored."""
        if self.jitter is None:
            resized = resize_masks(masks.flatten(0, 1), self.size).view(*masks.shape[:2], *self.size)
            return self._frames(video, times), resized, False
        frames = torch.stack([video[time].permute(2, 0, 1) for time in times])
        for _ in range(TRIES):
            changed = self.jitter(frames, masks, self.size, rng)
            if _visible(changed[1]).any():
                break
        return changed


def _visible(masks: Tensor) -> Tensor:
    """Return which targets of masks (T, N, H, W) are visible in any frame, bool (N,)."""
    return masks.any(3).any(2).any(0)


def _draw_expression(video: Video, target: int, flipped: bool, rng: np.random.Generator) -> str:
    """Draw one of a target's expressions, with left and right exchanged in a mirrored clip."""
    texts = video.expressions[target]
    text = texts[int(rng.integers(len(texts)))]
    return re.sub("left|right", lambda match: SIDES[match[0]], text) if flipped else text


def collate_labelled(items: Sequence[LabelledItem]) -> Clip:
    """Batch clips of one data set, padding them to the same number of targets and the same size.

    Args:
        items: the clips.

    Raises:
        InputError: the clips have different vocabularies.
    """
    first, rows = items[0], max(item.masks.shape[1] for item in items)
    height, width = (max(item.frames.shape[axis] for item in items) for axis in (2, 3))
    frames, masks, valid, categories = [], [], [], []
    for item in items:
        if (item.vocabulary, item.stuff) != (first.vocabulary, first.stuff):
            raise InputError("the clips of a batch have different vocabularies; a training set must have one")
        missing = rows - item.masks.shape[1]
        padding = (0, width - item.frames.shape[3], 0, height - item.frames.shape[2])
        frames.append(F.pad(item.frames, padding))
        masks.append(F.pad(item.masks, (*padding, 0, missing)))
        valid.append(torch.arange(rows) < item.masks.shape[1])
        if item.categories is not None:
            categories.append(F.pad(item.categories, (0, missing), value=-1))
    texts = [item.expressions + [""] * (rows - len(item.expressions)) for item in items if item.expressions is not None]
    return Clip(
        torch.stack(frames),
        torch.stack(masks),
        torch.stack(valid),
        categories=torch.stack(categories) if categories else None,
        expressions=texts or None,
        vocabulary=first.vocabulary,
        stuff=first.stuff,
        times=torch.tensor([item.times for item in items]),
    )
