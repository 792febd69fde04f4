"""YouTube-VOS 2018 and 2019, semi-supervised.

Source: Xu et al., "YouTube-VOS: Sequence-to-Sequence Video Object Segmentation", ECCV 2018.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from math import nan
from pathlib import Path

import torch
from torch import Tensor

from common.benchmarks.layouts.per_split import SplitVOS, find_meta_file, first_visible_frames, read_meta_file
from common.benchmarks.layouts.per_video import MaskFolder
from common.benchmarks.submissions.errors import SubmissionErrors
from common.errors import InputError
from common.metrics import GroupedJAndF
from common.video import FrameMasks, Video
from common.video.masks import write_label_map

LOCAL = "local, not the server's number"


class YouTubeVOS(SplitVOS):
    """YouTube-VOS: the mask of each object is given where it first appears, and the object is scored from then on.

    The annotations of ``valid`` and ``test`` are hidden, and the server's code is not public. On annotated videos, e.g.
    held-out videos of ``train``, an object is scored on the annotated frames after its prompt up to the last frame that
    ``meta.json`` lists for it; this is a local number, not the server's. An object is unseen if its category is not in
    ``train/meta.json``; if that file or the category is missing, the group is unknown and means are flat.

    Args:
        root: folder with ``train``, ``valid`` and so on.
        year: 2018 or 2019.
        split: folder of a split, e.g. ``valid``.
        all_frames: track all frames (30 fps, ``<split>_all_frames``) instead of every fifth (6 fps). The same frames
            are written and scored.
        videos: names of the videos to use, in this order; default: all videos of the split.

    Raises:
        InputError: the year does not exist; on access, the data is missing or inconsistent.
    """

    numbers = ("G", "J_seen", "F_seen", "J_unseen", "F_unseen")
    source = "https://youtube-vos.org"
    layout = """
        valid/JPEGImages/<video>/00000.jpg, 00005.jpg, ...                at 6 fps
        valid/Annotations/<video>/00000.png, ...                          where an object first appears
        valid/meta.json                                                   objects, and the frames listed for each
        valid_all_frames/JPEGImages/<video>/00000.jpg, 00001.jpg, ...     at 30 fps, for all_frames
        train/, test/                                                     the same; train with all annotations"""
    gaps = True  # missing frames are found by meta.json

    def __init__(
        self,
        root: str | Path | None = None,
        year: int = 2019,
        split: str = "valid",
        all_frames: bool = False,
        videos: Sequence[str] | None = None,
    ) -> None:
        super().__init__(root, split, videos)
        self.all_frames = all_frames
        if int(year) not in (2018, 2019):
            raise InputError(f"year {year}: YouTube-VOS is of 2018 or 2019")
        self.name = f"youtubevos{year}"
        self.folders = (self.name, f"ytvos{year}", "youtubevos", "ytvos")
        self.fps = 30.0 if all_frames else 6.0
        self.protocol = (
            f"G over seen and unseen (flat where categories are unknown), tracked at {self.fps:.0f} fps, each object "
            f"after its given frame up to its last listed one; {LOCAL}"
        )

    def frames_folder(self, id: str) -> Path:
        """Return the folder of a video's frames.

        Args:
            id: name of the video.
        """
        folder = self.split_folder
        return (folder.with_name(f"{folder.name}_all_frames") if self.all_frames else folder) / "JPEGImages" / id

    def starts(self, id: str, truth: MaskFolder) -> dict[int, int]:
        """Return the first listed frame of each object that contains it."""
        listed = self.listed_frames(id, truth.names)
        starts = first_visible_frames(truth, {target: set(frames) for target, frames in listed.items()})
        for target in listed.keys() - starts.keys():
            frames = [truth.names[frame] for frame in listed[target]]
            raise InputError(
                f"{truth.folder}: no label map of the frames {frames[0]} to {frames[-1]} shows object {target}, which "
                f"{self.meta_file.name} lists there; unpack the annotations again"
            )
        return starts

    def open(self, id: str) -> Video:
        """Open a video. It has no ground truth unless all listed frames are annotated.

        Args:
            id: name of the video.

        Raises:
            InputError: see ``FolderVOS.open``; also if a listed frame is missing.
        """
        video = super().open(id)
        annotated = set(video.annotated or ())
        listed = {frame for frames in self.listed_frames(id, video.names).values() for frame in frames}
        if not listed <= annotated:
            video.truth = None
        return video

    def listed_frames(self, id: str, names: Sequence[str]) -> dict[int, list[int]]:
        """Return the frame indices that the meta file lists for each object, ascending.

        Args:
            id: name of the video.
            names: file stem of each of its frames.

        Raises:
            InputError: no frame is listed for an object, or a listed frame is missing.
        """
        index = {name: n for n, name in enumerate(names)}
        listed = {}
        for target, entry in self.objects(id).items():
            frames = entry.get("frames") or ()
            if not frames:
                raise InputError(f"{self.meta_file}: video {id}, object {target} has no 'frames'; unpack it again")
            for name in frames:
                if name not in index:
                    where = self.frames_folder(id) / f"{name}.jpg"
                    raise InputError(f"{where}: missing, but {self.meta_file.name} lists it for object {target}")
            listed[target] = sorted(index[name] for name in frames)
        return listed

    # Scoring.

    def scored_frames(self, video: Video) -> Sequence[int]:
        """Return the annotated frames that are scored for any object."""
        spans = self._spans(video)
        return [frame for frame in video.annotated or () if any(first < frame <= last for first, last in spans)]

    def counts(self, video: Video) -> Tensor:
        """Return which frames count for which object, bool (T, N): after its prompt, up to its last listed frame."""
        spans = self._spans(video)
        rows = [[first < frame <= last for first, last in spans] for frame in self.scored_frames(video)]
        return torch.tensor(rows, dtype=torch.bool)

    def metric(self) -> GroupedJAndF:
        """Create the metric: G."""
        return GroupedJAndF()

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Return J and F, float64 (T, N) each, and ``unseen``, float64 (N,). See ``Benchmark.measure``."""
        objects = self.objects(video.id)
        unseen = [self.unseen(objects[target].get("category")) for target in video.targets]
        return {**super().measure(video, answers), "unseen": torch.tensor(unseen, dtype=torch.float64)}

    def unseen(self, category: str | None) -> float:
        """Return 1 if the training set lacks a category, 0 if it has it, NaN if this is unknown.

        Args:
            category: name of the category, if annotated.
        """
        return float(category not in self.training_categories) if category and self.training_categories else nan

    @cached_property
    def training_categories(self) -> set[str]:
        """Categories of the training set; empty if its meta file is missing."""
        try:
            videos = read_meta_file(find_meta_file(self.root / "train"))
        except InputError:
            return set()
        objects = (entry for video in videos.values() for entry in video.get("objects", {}).values())
        return {entry["category"] for entry in objects if entry.get("category")}

    def _spans(self, video: Video) -> list[tuple[int, int]]:
        """Return the prompt frame and the last listed frame of each target."""
        starts = {prompt.target: prompt.frame for prompt in video.prompts}
        listed = self.listed_frames(video.id, video.names)
        return [(starts[target], listed[target][-1]) for target in video.targets]

    # Submissions.

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """Write ``Annotations/<video>/<frame>.png`` for listed frames, without objects before their prompt.

        See ``Benchmark.write``.
        """
        starts = {prompt.target: prompt.frame for prompt in video.prompts}
        listed = {frame for frames in self.listed_frames(video.id, video.names).values() for frame in frames}
        written = listed.union(self.scored_frames(video))
        for answer in answers:
            if answer.frame in written:
                targets = tuple(target for target in answer.targets if starts.get(target, 0) <= answer.frame)
                masks = FrameMasks(answer.frame, targets, answer.select(targets), torch.ones(len(targets)))
                name = f"{video.name(answer.frame)}.png"
                write_label_map(folder / "Annotations" / video.id / name, masks.label_map())
            yield answer

    def read(self, video: Video, folder: Path, errors: SubmissionErrors) -> Iterator[FrameMasks]:
        """Read the scored frames, with or without the enclosing folder ``Annotations``. See ``Benchmark.read``."""
        nested = folder / "Annotations"
        return super().read(video, nested if nested.is_dir() else folder, errors)
