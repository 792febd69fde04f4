"""LVOS v1 and v2: long videos.

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

from common.benchmarks.layouts.per_split import SplitVOS, first_shown
from common.benchmarks.layouts.per_video import MaskFolder, read_list
from common.errors import InputError
from common.metrics import GroupedJAndF
from common.video import FrameMasks, Video

STEP = 5  # between the numbers of frames: 6 of 30 a second
LIST = "unseen_videos.txt"
LIST_SOURCE = "the list of unseen videos in https://github.com/LingyiHongfd/lvos-evaluation, one name a line"


class LVOS(SplitVOS):
    """LVOS: each object counts from its own start, without its own first and last annotated frame.

    The official numbers are means of the means over seen and over unseen videos. Which videos are unseen is told by a
    list that comes with the official evaluator and is not part of the data.

    Args:
        root: folder that holds ``train``, ``valid`` and ``test``, each with a ``<split>_meta.json``.
        version: 1 or 2.
        split: one of them; the annotations of ``test`` are on the server.
        groups: average over seen and over unseen videos first. Otherwise means are flat over all objects, as some
            papers have them, which is another protocol; no list is needed, and the numbers of the groups are NaN.
        unseen: file with the names of unseen videos, one a line; default: ``unseen_videos.txt`` in ``root``.
        videos: only these, in this order; default: the whole split.

    Raises:
        InputError: a version that does not exist; later, data that is missing or does not fit.
    """

    numbers = ("J&F", "J", "F", "J_seen", "F_seen", "J_unseen", "F_unseen", "V")
    source = "https://lingyihongfd.github.io/lvos.github.io"
    layout = """
        valid/JPEGImages/<video>/00000001.jpg, 00000006.jpg, ...
        valid/Annotations/<video>/00000001.png
        valid_meta.json                             of each object the first and last annotated frame
        train/, test/, train_meta.json, ...         likewise; test with each object's first annotation
        unseen_videos.txt                           from the official evaluator, for the means over seen and unseen"""
    fps = 6.0
    gaps = True  # missing frames are found by the description

    def __init__(
        self,
        root: str | Path | None = None,
        version: int = 2,
        split: str = "valid",
        groups: bool = True,
        unseen: str | Path | None = None,
        videos: Sequence[str] | None = None,
    ) -> None:
        super().__init__(root, split, videos)
        if int(version) not in (1, 2):
            raise InputError(f"version {version}: LVOS has versions 1 and 2")
        self.groups, self.given_list = groups, unseen
        averaging = "mean of seen and unseen videos" if groups else "flat mean over objects"
        self.protocol = f"J&F, each object from its own start without its first and last annotated frame, {averaging}"
        self.name = f"lvosv{version}"
        self.folders = (self.name, f"lvos{version}", "lvos")

    @cached_property
    def unseen_videos(self) -> set[str]:
        """Names of the unseen videos.

        Raises:
            InputError: there is no list of them, or it is empty.
        """
        path = Path(self.given_list or self.root / LIST)
        if not path.is_file():
            raise InputError(f"{path}: no such file; it is {LIST_SOURCE}; or set groups to false for flat means")
        return set(read_list(path, "list of unseen videos"))

    def starts(self, id: str, truth: MaskFolder) -> dict[int, int]:
        """Each object with the first frame from its start on that shows it."""
        numbers = _numbers(truth.names)
        begins = {target: self.frame_range(id, target)[0] for target in self.objects(id)}
        own = {target: [f for f in truth.annotated if numbers[f] >= begin] for target, begin in begins.items()}
        starts = first_shown(truth, own)
        for target in begins.keys() - starts.keys():
            raise InputError(
                f"{truth.folder}: no label map from frame {begins[target]:08d} on shows object {target}, which "
                f"{self.description.name} says starts there; unpack the annotations again"
            )
        return starts

    def frame_range(self, id: str, target: int) -> tuple[int, int, int]:
        """Number of an object's first and last annotated frame, and how many there are.

        Raises:
            InputError: the description does not say.
        """
        try:
            said = self.objects(id)[target]["frame_range"]
            return int(said["start"]), int(said["end"]), int(said["frame_nums"])
        except (KeyError, TypeError, ValueError):
            raise InputError(
                f"{self.description}: video {id}, object {target} has no whole 'frame_range'; unpack it again"
            ) from None

    # Scoring.

    def own_frames(self, video: Video) -> dict[int, list[int]]:
        """Frame indices that count for each object.

        Raises:
            InputError: the video lacks one.
        """
        index = {number: n for n, number in enumerate(_numbers(video.names))}
        found = {}
        for target in video.targets:
            start, end, annotated = self.frame_range(video.id, target)
            # The evaluator leaves out the end of the range, and the frame that would be the last by their number.
            counting = [n for k, n in enumerate(range(start, end, STEP)) if k not in (0, annotated - 1)]
            for number in counting:
                if number not in index:
                    where = self.frames_folder(video.id) / f"{number:08d}.jpg"
                    raise InputError(f"{where}: missing, but it counts for object {target} ({self.description.name})")
            found[target] = [index[number] for number in counting]
        return found

    def scored_frames(self, video: Video) -> Sequence[int]:
        """Frames that count for an object."""
        return sorted({frame for own in self.own_frames(video).values() for frame in own})

    def counts(self, video: Video) -> Tensor:
        """Which scored frames count for which object, bool (T, N)."""
        own = [set(frames) for frames in self.own_frames(video).values()]
        rows = [[frame in frames for frames in own] for frame in self.scored_frames(video)]
        return torch.tensor(rows, dtype=torch.bool)

    def metric(self) -> GroupedJAndF:
        """A fresh metric."""
        return GroupedJAndF()

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """J and F, float64 (T, N) each, ``unseen`` and ``missing``, (N,) each."""
        group = float(video.id in self.unseen_videos) if self.groups else nan
        own = self.own_frames(video)
        annotated = [self.frame_range(video.id, target)[2] for target in video.targets]
        missing = [max(count - 2 - len(own[t]), 0) for t, count in zip(video.targets, annotated, strict=True)]
        return {
            **super().measure(video, answers),
            "unseen": torch.full((len(missing),), group, dtype=torch.float64),
            "missing": torch.tensor(missing, dtype=torch.float64),
        }


def _numbers(names: Sequence[str]) -> list[int]:
    """Numbers of frames.

    Raises:
        InputError: a name is no number.
    """
    for name in names:
        if not name.isdecimal():
            raise InputError(f"{name}.jpg: frames of LVOS are named by number, such as 00000001.jpg; rename it")
    return [int(name) for name in names]
