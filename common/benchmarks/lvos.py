"""LVOS v1 and v2: long-term video object segmentation.

Sources: Hong et al., "LVOS: A Benchmark for Long-term Video Object Segmentation", ICCV 2023; Hong et al., "LVOS: A
Benchmark for Large-scale Long-term Video Object Segmentation", arXiv 2404.19326.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from math import nan
from pathlib import Path

import torch
from torch import Tensor

from common.benchmarks.layouts.per_split import SplitVOS, first_visible_frames
from common.benchmarks.layouts.per_video import MaskFolder, read_list
from common.errors import InputError
from common.metrics import GroupedJAndF
from common.video import FrameMasks, Video

STEP = 5  # between frame numbers: 6 fps out of 30 fps
LIST = "unseen_videos.txt"
LIST_SOURCE = "the list of unseen videos in https://github.com/LingyiHongfd/lvos-evaluation, one name a line"


class LVOS(SplitVOS):
    """LVOS: each object is scored on its own annotated frames but the first and the last.

    The official numbers average the means over seen and over unseen videos. The list of unseen videos comes with the
    official evaluator and is not part of the data.

    Args:
        root: folder with ``train``, ``valid`` and ``test``, each with a ``<split>_meta.json``.
        version: 1 or 2.
        split: ``valid``, ``train`` or ``test``, whose annotations are hidden.
        average_seen_unseen: average over seen and over unseen videos first. Otherwise means are flat over all objects,
            as in some papers; this is another protocol, needs no list, and the numbers of the two groups are NaN.
        unseen_list: file with the names of unseen videos, one a line; default: ``unseen_videos.txt`` in ``root``.
        videos: names of the videos to use, in this order; default: all videos of the split.

    Raises:
        InputError: the version does not exist; on access, the data is missing or inconsistent.
    """

    numbers = ("J&F", "J", "F", "J_seen", "F_seen", "J_unseen", "F_unseen", "V")
    source = "https://lingyihongfd.github.io/lvos.github.io"
    layout = """
        valid/JPEGImages/<video>/00000001.jpg, 00000006.jpg, ...
        valid/Annotations/<video>/00000001.png
        valid_meta.json                             of each object the first and last annotated frame
        train/, test/, train_meta.json, ...         the same; test with each object's first annotation
        unseen_videos.txt                           from the official evaluator, for the means over seen and unseen"""
    fps = 6.0
    gaps = True  # missing frames are found by the description

    def __init__(
        self,
        root: str | Path | None = None,
        version: int = 2,
        split: str = "valid",
        average_seen_unseen: bool = True,
        unseen_list: str | Path | None = None,
        videos: Sequence[str] | None = None,
    ) -> None:
        super().__init__(root, split, videos)
        if int(version) not in (1, 2):
            raise InputError(f"version {version}: LVOS has versions 1 and 2")
        self.average_seen_unseen, self.unseen_list = average_seen_unseen, unseen_list
        averaging = "mean of seen and unseen videos" if average_seen_unseen else "flat mean over objects"
        self.protocol = f"J&F, each object from its own start without its first and last annotated frame, {averaging}"
        self.name = f"lvosv{version}"
        self.folders = (self.name, f"lvos{version}", "lvos")

    @cached_property
    def unseen_videos(self) -> set[str]:
        """Names of the unseen videos.

        Raises:
            InputError: the list is missing or empty.
        """
        path = Path(self.unseen_list or self.root / LIST)
        if not path.is_file():
            raise InputError(
                f"{path}: no such file; it is {LIST_SOURCE}; or set average_seen_unseen to false for flat means"
            )
        return set(read_list(path, "list of unseen videos"))

    def starts(self, id: str, truth: MaskFolder) -> dict[int, int]:
        """Return the first frame of each object that contains it, counted from the start in the meta file."""
        numbers = _numbers(truth.names)
        begins = {target: self.frame_range(id, target)[0] for target in self.objects(id)}
        candidates = {target: [f for f in truth.annotated if numbers[f] >= begin] for target, begin in begins.items()}
        starts = first_visible_frames(truth, candidates)
        for target in begins.keys() - starts.keys():
            raise InputError(
                f"{truth.folder}: no label map from frame {begins[target]:08d} on shows object {target}, which "
                f"{self.meta_file.name} says starts there; unpack the annotations again"
            )
        return starts

    def frame_range(self, id: str, target: int) -> tuple[int, int, int]:
        """Return the numbers of an object's first and last annotated frame, and the count of its annotated frames.

        Args:
            id: name of the video.
            target: id of the object.

        Raises:
            InputError: the meta file lacks them.
        """
        try:
            frame_range = self.objects(id)[target]["frame_range"]
            return int(frame_range["start"]), int(frame_range["end"]), int(frame_range["frame_nums"])
        except (KeyError, TypeError, ValueError):
            raise InputError(
                f"{self.meta_file}: video {id}, object {target} has no whole 'frame_range'; unpack it again"
            ) from None

    # Scoring.

    def object_frames(self, video: Video) -> dict[int, list[int]]:
        """Return the indices of the scored frames of each object.

        Args:
            video: the video.

        Raises:
            InputError: the video lacks one of the frames.
        """
        index = {number: n for n, number in enumerate(_numbers(video.names))}
        scored = {}
        for target in video.targets:
            start, end, annotated = self.frame_range(video.id, target)
            # The official evaluator excludes the end of the range, and the frame that is the last one by count.
            numbers = [n for k, n in enumerate(range(start, end, STEP)) if k not in (0, annotated - 1)]
            for number in numbers:
                if number not in index:
                    where = self.frames_folder(video.id) / f"{number:08d}.jpg"
                    raise InputError(f"{where}: missing, but it counts for object {target} ({self.meta_file.name})")
            scored[target] = [index[number] for number in numbers]
        return scored

    def scored_frames(self, video: Video) -> Sequence[int]:
        """Return the frames that are scored for any object."""
        return sorted({frame for frames in self.object_frames(video).values() for frame in frames})

    def counts(self, video: Video) -> Tensor:
        """Return which scored frames count for which object, bool (T, N)."""
        object_frames = [set(frames) for frames in self.object_frames(video).values()]
        rows = [[frame in frames for frames in object_frames] for frame in self.scored_frames(video)]
        return torch.tensor(rows, dtype=torch.bool)

    def metric(self) -> GroupedJAndF:
        """Create the metric."""
        return GroupedJAndF()

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Return J and F, float64 (T, N) each, and ``unseen`` and ``missing``, float64 (N,) each."""
        group = float(video.id in self.unseen_videos) if self.average_seen_unseen else nan
        object_frames = self.object_frames(video)
        annotated = [self.frame_range(video.id, target)[2] for target in video.targets]
        # The evaluator divides by the annotated frames of the meta file but two; frames that do not exist score 0.
        missing = [max(count - 2 - len(object_frames[t]), 0) for t, count in zip(video.targets, annotated, strict=True)]
        return {
            **super().measure(video, answers),
            "unseen": torch.full((len(missing),), group, dtype=torch.float64),
            "missing": torch.tensor(missing, dtype=torch.float64),
        }


def _numbers(names: Sequence[str]) -> list[int]:
    """Return the numbers of frames from their names."""
    for name in names:
        if not name.isdecimal():
            raise InputError(f"{name}.jpg: frames of LVOS are named by number, such as 00000001.jpg; rename it")
    return [int(name) for name in names]
