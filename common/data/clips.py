"""Sampling of training clips from annotated videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from common.data.augmentation import Augmentation
from common.data.clip import Clip
from common.errors import InputError
from common.video import Video

VISIBLE = 0.0005  # minimum area of a target in the first frame, as a fraction of the frame
STARTS = 10  # clips tried per video
VIDEOS = 10  # consecutive videos tried before the data set counts as unusable

Item = tuple[Tensor, ...]


class VideoSet(Protocol):
    """Map-style data set of videos, e.g. generated videos, a benchmark or a list."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Video: ...


class ClipDataset(Dataset[Item]):
    """Clips of annotated videos, deterministic in (seed, epoch, index).

    All targets of a clip (at most ``max_objects``) are visible in its first frame, as in SAM 2. Each epoch continues
    through the videos where the previous one stopped.

    Args:
        videos: annotated videos.
        frames: number of frames per clip.
        max_skip: maximum step between consecutive frames, in annotated frames, or a schedule of (first epoch, step).
        size: (H, W) of the clip.
        max_objects: maximum number of targets per clip.
        augment: augmentation; default: none.
        length: clips per epoch; default: one per video.
        seed: seed of the sampling.
        reverse: probability of reversing a clip in time.

    Shape: an item is (frames uint8 (T, 3, H, W), masks bool (T, N, H, W)) with 1 <= N <= max_objects.

    Raises:
        InputError: there are no videos, an argument is below 1, a video has no annotations, or no clip of ``VIDEOS``
            consecutive videos shows a target.
    """

    def __init__(
        self,
        videos: VideoSet,
        frames: int = 8,
        max_skip: int | Sequence[tuple[int, int]] = 1,
        size: tuple[int, int] = (128, 128),
        max_objects: int = 3,
        augment: Augmentation | None = None,
        length: int | None = None,
        seed: int = 0,
        reverse: float = 0.5,
    ) -> None:
        if not len(videos):
            raise InputError("ClipDataset: there are no training videos")
        self.videos, self.frames, self.size, self.max_objects = videos, frames, (size[0], size[1]), max_objects
        self.schedule = [(0, max_skip)] if isinstance(max_skip, int) else sorted((e, s) for e, s in max_skip)
        if frames < 1 or max_objects < 1 or not self.schedule or min(skip for _, skip in self.schedule) < 1:
            raise InputError(f"ClipDataset: frames {frames}, max_objects {max_objects}, max_skip {max_skip} start at 1")
        self.augment, self.length, self.seed, self.reverse = augment, length or len(videos), seed, reverse
        # In shared memory, so that persistent workers see it change.
        self._epoch: Tensor = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which determines the clips and the maximum step, in all workers.

        Args:
            epoch: the epoch, from 0.
        """
        self._epoch.fill_(epoch)

    @property
    def epoch(self) -> int:
        """The current epoch."""
        return int(self._epoch)

    @property
    def skip(self) -> int:
        """Maximum step between two frames in the current epoch."""
        past = [skip for epoch, skip in self.schedule if epoch <= self.epoch]
        return past[-1] if past else self.schedule[0][1]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < self.length:
            raise IndexError(f"clip {index} of {self.length}")
        rng = np.random.default_rng((self.seed, self.epoch, index))
        clip = self._clip(self.epoch * self.length + index, rng)
        if self.augment is None:
            return clip
        paste = self._clip(int(rng.integers(len(self.videos))), rng) if rng.random() < self.augment.paste else None
        return self._augment(self.augment, clip, rng, paste)

    def _clip(self, number: int, rng: np.random.Generator) -> Item:
        """Sample a clip of the given video, or of the next one whose first frame contains a target."""
        video, times, masks = self._find(number, rng, self._choose_visible)
        return self._frames(video, times), masks

    def _augment(self, augment: Augmentation, clip: Item, rng: np.random.Generator, paste: Item | None) -> Item:
        return augment(clip[0], clip[1], rng, paste, size=self.size, max_objects=self.max_objects)

    def _choose_visible(self, video: Video, times: list[int], rng: np.random.Generator) -> Tensor | None:
        """Return the masks of random targets that are visible in the first frame; None if there are none."""
        first = self._masks(video, times[0])
        rows = np.flatnonzero((first.flatten(1).sum(1) >= VISIBLE * first[0].numel()).numpy())
        if not len(rows):
            return None
        rows = np.sort(rng.permutation(rows)[: self.max_objects])
        return torch.stack([first, *(self._masks(video, t) for t in times[1:])])[:, rows]

    def _find(
        self,
        number: int,
        rng: np.random.Generator,
        choose: Callable[[Video, list[int], np.random.Generator], Tensor | None],
    ) -> tuple[Video, list[int], Tensor]:
        """Return the given video or one of the next, with the frames of a clip for which ``choose`` returns masks."""
        for step in range(VIDEOS):
            video = self.videos[(number + step) % len(self.videos)]
            frames = range(len(video)) if video.annotated is None else video.annotated
            for _ in range(STARTS):
                times = [frames[index] for index in self._times(len(frames), rng)]
                masks = choose(video, times, rng)
                if masks is not None:
                    return video, times, masks
        raise InputError(f"{video.id}: no clip of it shows a target where it must, nor of the videos before it")

    def _times(self, length: int, rng: np.random.Generator) -> list[int]:
        """Sample indices of annotated frames; the last frame of a short video is repeated."""
        fits = max(1, (length - 1) // max(1, self.frames - 1))
        steps = rng.integers(1, min(self.skip, fits) + 1, self.frames - 1)
        offsets = np.concatenate(([0], np.cumsum(steps)))
        times = np.minimum(rng.integers(max(1, length - int(offsets[-1]))) + offsets, length - 1)
        chosen: list[int] = (times[::-1] if rng.random() < self.reverse else times).tolist()
        return chosen

    def _frames(self, video: Video, times: list[int]) -> Tensor:
        """Return frames uint8 (T, 3, h, w) at the size expected by the augmentation."""
        frames = (video[time] for time in times)
        return torch.stack([resize_image(frame, self._source_size(*frame.shape[:2])) for frame in frames])

    def _masks(self, video: Video, time: int) -> Tensor:
        """Return masks bool (N, h, w) at the size of ``_frames``."""
        masks = video.truth[time] if video.truth is not None else None
        if masks is None:
            raise InputError(f"{video.id}: frame {video.name(time)} has no annotation; train on annotated videos only")
        return resize_masks(masks, self._source_size(*masks.shape[1:]))

    def _source_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size before augmentation: the clip's, or with ``keep_shape`` the smallest that covers it."""
        if self.augment is None or not self.augment.keep_shape:
            return self.size
        scale = max(self.size[0] / height, self.size[1] / width)
        return max(self.size[0], round(scale * height)), max(self.size[1], round(scale * width))


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize an image bilinearly with antialiasing.

    Args:
        image: uint8 (H, W, 3).
        size: (h, w).

    Returns:
        uint8 (3, h, w).
    """
    image = image.permute(2, 0, 1)
    if image.shape[1:] == size:
        return image
    resized = F.interpolate(image[None].float(), size, mode="bilinear", antialias=True)[0]
    return resized.add_(0.5).clamp_(0, 255).to(torch.uint8)


def resize_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize masks to the nearest pixel.

    Args:
        masks: bool (N, H, W).
        size: (h, w).

    Returns:
        bool (N, h, w).
    """
    if masks.shape[1:] == size:
        return masks
    return F.interpolate(masks[None].to(torch.uint8), size, mode="nearest-exact")[0].bool()


def collate(items: Sequence[Item]) -> Clip:
    """Batch clips, padding them to the same number of targets.

    Args:
        items: (frames, masks) or (frames, masks, query, query masks) of each clip.
    """
    frames, masks, *queries = zip(*items, strict=True)
    rows = max(m.shape[1] for m in masks)
    padded = torch.stack([F.pad(m, (0, 0, 0, 0, 0, rows - m.shape[1])) for m in masks])
    valid = torch.arange(rows)[None] < torch.tensor([m.shape[1] for m in masks])[:, None]
    rest = [torch.stack([torch.cat([q, q.new_zeros(rows - len(q), *q.shape[1:])]) for q in kind]) for kind in queries]
    query, query_masks = rest or (None, None)
    return Clip(torch.stack(frames), padded, valid, query, query_masks)
