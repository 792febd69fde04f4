"""Lightning data module: training clips, and videos for validation, test and prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch.utils.data import DataLoader, SequentialSampler

from common.benchmarks import Benchmark
from common.data.augmentation import Augmentation
from common.data.clips import ClipDataset, VideoSet, collate
from common.data.labelled import LabelledClips, collate_labelled
from common.data.mixture import ClipLoader, EpochSampler, MixedClips
from common.data.queries import QueryClips
from common.data.scale_jitter import ScaleJitter
from common.errors import InputError
from common.video import Video, open_video


class VideoDataModule(L.LightningDataModule):
    """Data of a run; each data set and benchmark is given in YAML by its class path.

    Training is reproducible bit for bit for any number of workers: a clip depends on (seed, epoch, index) only. With
    several processes every video is scored exactly once.

    Args:
        train: annotated data sets to train on.
        val: benchmarks of ``validate`` and of validation during ``fit``.
        test: benchmarks of ``test``.
        predict: video files, image folders, or data sets.
        gaps: allow gaps in the numbering of the images in folders to predict.
        weights: sampling weight of each training set; default: equal.
        batch_size: clips per batch and process.
        frames: frames per clip.
        max_skip: maximum step between two frames of a clip, or [[first epoch, maximum step], ...].
        intervals: for each training set, the number of frames from one annotated frame to the next; ``max_skip`` then
            counts frames of the video, rounded down to annotated ones. By default it counts annotated frames.
        size: [height, width] of a clip.
        max_objects: maximum number of targets per clip.
        augmentation: augmentation of training clips; a ``ScaleJitter`` with ``tasks``.
        reverse: probability of reversing a clip in time.
        clips_per_epoch: clips per epoch, over all processes.
        tasks: task of each training set, see ``LabelledClips``: its clips carry categories or expressions, and all
            clips of a batch come from one set, drawn by ``weights``.
        window: with ``tasks``, number of annotated frames on each side of a reference frame from which the others are
            drawn, instead of ``max_skip``; one value, or one per set.
        queries: add a query image of each target, which may be absent from any frame; the training sets must have them.
        negatives: with ``queries``, fraction of clips with queries of another video, whose masks are empty.
        num_workers: workers per process.
        seed: seed of the sampling.

    Raises:
        InputError: a path to predict does not exist, weights or tasks do not match the training sets, the augmentation
            does not match the kind of clips, or an epoch is smaller than a batch.
    """

    def __init__(
        self,
        train: list[VideoSet] | None = None,
        val: list[Benchmark] | None = None,
        test: list[Benchmark] | None = None,
        predict: list[str | VideoSet] | None = None,
        weights: list[float] | None = None,
        batch_size: int = 8,
        frames: int = 8,
        max_skip: int | list[tuple[int, int]] = 1,
        intervals: list[int] | None = None,
        size: tuple[int, int] = (128, 128),
        max_objects: int = 3,
        augmentation: Augmentation | ScaleJitter | None = None,
        reverse: float = 0.5,
        clips_per_epoch: int = 1000,
        tasks: list[str] | None = None,
        window: int | list[int] | None = None,
        queries: bool = False,
        negatives: float = 0.0,
        num_workers: int = 0,
        seed: int = 0,
        gaps: bool = False,
    ) -> None:
        super().__init__()
        self.val_benchmarks: list[Benchmark] = val or []
        self.test_benchmarks: list[Benchmark] = test or []
        self.predict_sets = _open_sets(predict or [], gaps)
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        if clips_per_epoch < batch_size:
            raise InputError(f"clips_per_epoch {clips_per_epoch} does not fill one batch of {batch_size}")
        sets = train or []
        windows = window if isinstance(window, list) else [window] * len(sets)
        if tasks is not None and not len(tasks) == len(windows) == len(sets):
            raise InputError(f"{len(tasks)} tasks and {len(windows)} windows for {len(sets)} training sets; name each")
        if intervals is not None and (len(intervals) != len(sets) or min(intervals, default=1) < 1):
            raise InputError(f"intervals {intervals}: give each of {len(sets)} training sets one, at least 1")
        if augmentation is not None and isinstance(augmentation, ScaleJitter) != (tasks is not None):
            raise InputError("augmentation: a ScaleJitter goes with tasks, an Augmentation with clips that have none")
        self.tasks = tasks
        jitter = augmentation if isinstance(augmentation, ScaleJitter) else None
        augment = augmentation if isinstance(augmentation, Augmentation) else None

        def source(number: int, videos: VideoSet) -> ClipDataset:
            # Each set has its own seed, so that two sets with the same videos give different clips.
            skip = _in_annotated_frames(max_skip, intervals[number]) if intervals else max_skip
            arguments = (frames, skip, size, max_objects, augment, clips_per_epoch, seed + number, reverse)
            if tasks is not None:
                return LabelledClips(videos, *arguments, task=tasks[number], window=windows[number], jitter=jitter)
            return QueryClips(videos, *arguments, negatives=negatives) if queries else ClipDataset(videos, *arguments)

        sources = [source(number, videos) for number, videos in enumerate(sets)]
        self.clips = MixedClips(sources, weights, seed) if sources else None

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of training batches, ``Clip``."""
        if self.clips is None:
            raise InputError("data.train is empty: name at least one set of videos to train on")
        processes, rank = self._process()
        self.clips.group = processes * self.batch_size if self.tasks else 1
        return ClipLoader(
            self.clips,
            self.batch_size,
            sampler=EpochSampler(self.clips, processes, rank, self.batch_size, self._taken if self.trainer else None),
            generator=torch.Generator().manual_seed(self.seed),  # of the workers; torch's own belongs to the training
            num_workers=self.num_workers,
            collate_fn=collate_labelled if self.tasks else collate,
            drop_last=True,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            persistent_workers=self.num_workers > 0,
        )

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """Return one loader of videos per validation benchmark."""
        return [self._videos(benchmark) for benchmark in self.val_benchmarks]

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """Return one loader of videos per test benchmark."""
        if not self.test_benchmarks:
            raise InputError("data.test is empty: name at least one benchmark to test on")
        return [self._videos(benchmark) for benchmark in self.test_benchmarks]

    def predict_dataloader(self) -> list[DataLoader[Any]]:
        """Return one loader of videos per data set to predict; all paths together form one set."""
        if not self.predict_sets:
            raise InputError("data.predict is empty: name at least one video file, image folder or set of videos")
        return [self._videos(videos) for videos in self.predict_sets]

    def transfer_batch_to_device(self, batch: object, device: torch.device, dataloader_idx: int) -> object:
        """Move a batch of clips to a device; a video stays on the CPU, and its frames are moved one by one.

        Args:
            batch: batch of clips, or a video.
            device: target device.
            dataloader_idx: index of the loader.
        """
        return batch if isinstance(batch, Video) else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def _videos(self, videos: VideoSet) -> DataLoader[Any]:
        """Return a loader of single videos that distributes them over processes without repetition."""
        processes, rank = self._process()
        lazy: Any = _LazyVideos(videos)
        if processes == 1:
            return DataLoader(lazy, batch_size=None, sampler=SequentialSampler(lazy))
        if len(videos) < processes:
            raise InputError(f"{len(videos)} videos cannot be shared by {processes} processes; use fewer devices")
        sampler = UnrepeatedDistributedSampler(lazy, processes, rank, shuffle=False)
        return DataLoader(lazy, batch_size=None, sampler=sampler)

    def _taken(self) -> int:
        """Return the number of batches that the training has taken, those before a resumption included."""
        assert self.trainer is not None
        return int(self.trainer.fit_loop.epoch_loop.batch_progress.total.processed)  # type: ignore[attr-defined]

    def _process(self) -> tuple[int, int]:
        """Return the number of processes and the rank of this one."""
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)


def _in_annotated_frames(max_skip: int | list[tuple[int, int]], interval: int) -> list[tuple[int, int]]:
    """Convert a maximum step or a schedule from frames of the video to annotated frames."""
    schedule = [(0, max_skip)] if isinstance(max_skip, int) else max_skip
    return [(epoch, max(1, skip // interval)) for epoch, skip in schedule]


class _LazyVideos:
    """Videos opened on access; an error is returned in place of the video, so that the others can be processed."""

    def __init__(self, videos: VideoSet) -> None:
        self.videos = videos

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> Video | InputError:
        try:
            return self.videos[index]
        except InputError as error:
            return error


class _PathVideos:
    """Video files and image folders, opened on access. Videos of one name are told apart by their folders' names."""

    def __init__(self, paths: Sequence[Path], gaps: bool) -> None:
        self.paths, self.gaps = paths, gaps
        self.names = _unique_names([path.resolve() for path in paths])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Video:
        return open_video(self.paths[index], self.names[index], gaps=self.gaps)


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """Return the stem of each absolute path, with as many folder names before it as tell it from the others.

    Raises:
        InputError: two are the same, or differ in their suffix only.
    """
    parts = [(*path.parent.parts[1:], path.name if path.is_dir() else path.stem) for path in paths]
    names = []
    for own in parts:
        same = [other for other in parts if other[-1] == own[-1]]
        depths = (depth for depth in range(1, len(own) + 1) if sum(o[-depth:] == own[-depth:] for o in same) == 1)
        depth = next(depths, None)
        if depth is None:
            raise InputError(f"{Path(*own)}: data.predict names two videos of this name; rename one of them")
        names.append("_".join(own[-depth:]))
    return names


def _open_sets(predict: Sequence[str | VideoSet], gaps: bool) -> list[VideoSet]:
    paths = [Path(entry) for entry in predict if isinstance(entry, str)]
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such video file or image folder")
    sets: list[VideoSet] = [_PathVideos(paths, gaps)] if paths else []
    return sets + [entry for entry in predict if not isinstance(entry, str)]
