"""Training clips cut out of annotated videos."""

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

VISIBLE = 0.0005  # of the frame: the least area in the first frame at which a target is worth following
STARTS = 10  # first frames tried in a video
VIDEOS = 10  # videos tried, one after the other, before the whole set counts as unusable

Item = tuple[Tensor, ...]


class VideoSet(Protocol):
    """Any map-style set of videos: generated clips, a benchmark, a list."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Video: ...


class ClipDataset(Dataset[Item]):
    """Clips of a few frames from annotated videos, each a function of (seed, epoch, index) alone.

    The first frame of a clip shows every target that was chosen (at most ``max_objects``), as SAM 2 trains. Epochs go
    on through the videos where the last one stopped.

    Args:
        videos: annotated videos.
        frames: frames of a clip.
        max_skip: largest step between two annotated frames, or a schedule of (first epoch, largest step) pairs.
        size: (H, W) of the clip.
        max_objects: most targets of a clip.
        augment: what changes the look of a clip.
        length: clips of an epoch; one per video by default.
        seed: chooses the clips.
        reverse: probability that a clip runs backwards.

    Shape: an item is (frames uint8 (T, 3, H, W), masks bool (T, N, H, W)) with 1 <= N <= max_objects.

    Raises:
        InputError: no videos, a video without annotations, or no target in the first frames of ``VIDEOS`` videos.
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
        # in shared memory, so that workers kept alive between epochs see it change
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Go to the clips and the largest step of this epoch, in every worker."""
        self._epoch.fill_(epoch)

    @property
    def epoch(self) -> int:
        """The epoch, as ``set_epoch`` left it."""
        return int(self._epoch)

    @property
    def skip(self) -> int:
        """The largest step between two frames in this epoch."""
        begun = [skip for epoch, skip in self.schedule if epoch <= self.epoch]
        return begun[-1] if begun else self.schedule[0][1]

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
        return self._augmented(self.augment, clip, rng, paste)

    def _clip(self, number: int, rng: np.random.Generator) -> Item:
        """A clip of the given video, or of the next one whose first frame shows a target."""
        video, times, masks = self._find(number, rng, self._starting)
        return self._frames(video, times), masks

    def _augmented(self, augment: Augmentation, clip: Item, rng: np.random.Generator, paste: Item | None) -> Item:
        return augment(clip[0], clip[1], rng, paste, size=self.size, most=self.max_objects)

    def _starting(self, video: Video, times: list[int], rng: np.random.Generator) -> Tensor | None:
        """Masks of the chosen targets, all of them visible in the first frame; None where it shows none."""
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
        """The given video or one of the next, with the times of a clip for which ``choose`` returns masks."""
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
        """Places of a clip's frames among those annotated; the last of a short video repeats."""
        fits = max(1, (length - 1) // max(1, self.frames - 1))
        steps = rng.integers(1, min(self.skip, fits) + 1, self.frames - 1)
        offsets = np.concatenate(([0], np.cumsum(steps)))
        times = np.minimum(rng.integers(max(1, length - int(offsets[-1]))) + offsets, length - 1)
        return (times[::-1] if rng.random() < self.reverse else times).tolist()

    def _frames(self, video: Video, times: list[int]) -> Tensor:
        """Frames uint8 (T, 3, h, w) at the clip's size, or at that from which the augmentation cuts it."""
        frames = (video[time] for time in times)
        return torch.stack([resized_image(frame, self._fitted(*frame.shape[:2])) for frame in frames])

    def _masks(self, video: Video, time: int) -> Tensor:
        """Masks bool (N, h, w), of the size of frames."""
        masks = video.truth[time] if video.truth is not None else None
        if masks is None:
            raise InputError(f"{video.id}: frame {video.name(time)} has no annotation; train on annotated videos only")
        return resized_masks(masks, self._fitted(*masks.shape[1:]))

    def _fitted(self, height: int, width: int) -> tuple[int, int]:
        """Size of a frame before the augmentation: the clip's, or with the frame's own shape at least the clip's."""
        if self.augment is None or not self.augment.keep_shape:
            return self.size
        scale = max(self.size[0] / height, self.size[1] / width)
        return max(self.size[0], round(scale * height)), max(self.size[1], round(scale * width))


def resized_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """An image uint8 (H, W, 3) as uint8 (3, h, w) of another size."""
    image = image.permute(2, 0, 1)
    if image.shape[1:] == size:
        return image
    resized = F.interpolate(image[None].float(), size, mode="bilinear", antialias=True)[0]
    return resized.add_(0.5).clamp_(0, 255).to(torch.uint8)


def resized_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks bool (N, H, W) at another size."""
    if masks.shape[1:] == size:
        return masks
    return F.interpolate(masks[None].to(torch.uint8), size, mode="nearest-exact")[0].bool()


def collate(items: Sequence[Item]) -> Clip:
    """Put clips, (frames, masks) or (frames, masks, query, query masks), into a batch.

    Rows that only fill up are False in ``valid``.
    """
    frames, masks, *queries = zip(*items, strict=True)
    most = max(m.shape[1] for m in masks)
    filled = torch.stack([F.pad(m, (0, 0, 0, 0, 0, most - m.shape[1])) for m in masks])
    valid = torch.arange(most)[None] < torch.tensor([m.shape[1] for m in masks])[:, None]
    rest = [torch.stack([torch.cat([q, q.new_zeros(most - len(q), *q.shape[1:])]) for q in kind]) for kind in queries]
    query, query_masks = rest or (None, None)
    return Clip(torch.stack(frames), filled, valid, query, query_masks)
