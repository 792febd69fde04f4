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

from common.benchmarks.layouts.per_split import SplitVOS, find_description, first_shown, read_description
from common.benchmarks.layouts.per_video import MaskFolder
from common.benchmarks.submissions.errors import SubmissionErrors
from common.errors import InputError
from common.metrics import GroupedJAndF
from common.video import FrameMasks, Video
from common.video.masks import write_label_map

LOCAL = "local, not the server's number"


class YouTubeVOS(SplitVOS):
    """YouTube-VOS: each object's mask is given where it first appears, and it counts from then on.

    The annotations of ``valid`` and ``test`` are on the server alone, which does not say how it scores. For videos that
    are annotated here, e.g. some of ``train`` held out, an object counts in the annotated frames after its given one up
    to the last that ``meta.json`` lists for it; that is a local number and not the server's. An object is unseen if its
    category is not in ``train/meta.json``; where that or the category is missing, nobody knows, and means are flat.

    Args:
        root: folder that holds ``train``, ``valid`` and so on.
        year: 2018 or 2019.
        split: folder of a part, e.g. ``valid``.
        all_frames: track all frames (30 fps, ``<split>_all_frames``) instead of every fifth (6 fps). What is written
            and scored is the same.
        videos: only these, in this order; default: the whole split.

    Raises:
        InputError: a year that does not exist; later, data that is missing or does not fit.
    """

    numbers = ("G", "J_seen", "F_seen", "J_unseen", "F_unseen")
    source = "https://youtube-vos.org"
    layout = """
        valid/JPEGImages/<video>/00000.jpg, 00005.jpg, ...                at 6 fps
        valid/Annotations/<video>/00000.png, ...                          where an object first appears
        valid/meta.json                                                   objects, and the frames listed for each
        valid_all_frames/JPEGImages/<video>/00000.jpg, 00001.jpg, ...     at 30 fps, for all_frames
        train/, test/                                                     likewise; train with all annotations"""
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
        """Where a video's frames lie."""
        place = self.split_folder
        return (place.with_name(f"{place.name}_all_frames") if self.all_frames else place) / "JPEGImages" / id

    def starts(self, id: str, truth: MaskFolder) -> dict[int, int]:
        """Each object with the first of its listed frames that shows it."""
        listed = self.listed_frames(id, truth.names)
        starts = first_shown(truth, {target: set(frames) for target, frames in listed.items()})
        for target in listed.keys() - starts.keys():
            frames = [truth.names[frame] for frame in listed[target]]
            raise InputError(
                f"{truth.folder}: no label map of the frames {frames[0]} to {frames[-1]} shows object {target}, which "
                f"{self.description.name} lists there; unpack the annotations again"
            )
        return starts

    def open(self, id: str) -> Video:
        """One video; its annotation is hidden unless all frames that count have one.

        Raises:
            InputError: see ``FolderVOS.open``, or it lacks a listed frame.
        """
        video = super().open(id)
        annotated = set(video.annotated or ())
        counting = {f for own in self.listed_frames(id, video.names).values() for f in own}
        if not counting <= annotated:
            video.truth = None
        return video

    def listed_frames(self, id: str, names: Sequence[str]) -> dict[int, list[int]]:
        """Frame indices that the description lists for each object, ascending.

        Raises:
            InputError: it lists none for an object, or one that the video does not have.
        """
        index = {name: n for n, name in enumerate(names)}
        found = {}
        for target, said in self.objects(id).items():
            frames = said.get("frames") or ()
            if not frames:
                raise InputError(f"{self.description}: video {id}, object {target} has no 'frames'; unpack it again")
            for name in frames:
                if name not in index:
                    where = self.frames_folder(id) / f"{name}.jpg"
                    raise InputError(f"{where}: missing, but {self.description.name} lists it for object {target}")
            found[target] = sorted(index[name] for name in frames)
        return found

    # Scoring.

    def scored_frames(self, video: Video) -> Sequence[int]:
        """Annotated frames that count for an object."""
        spans = self._spans(video)
        return [frame for frame in video.annotated or () if any(first < frame <= last for first, last in spans)]

    def counts(self, video: Video) -> Tensor:
        """An object counts after its given frame up to its last listed one: bool (T, N)."""
        spans = self._spans(video)
        rows = [[first < frame <= last for first, last in spans] for frame in self.scored_frames(video)]
        return torch.tensor(rows, dtype=torch.bool)

    def metric(self) -> GroupedJAndF:
        """A fresh G."""
        return GroupedJAndF()

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """J and F, float64 (T, N) each, and ``unseen``, (N,)."""
        said = self.objects(video.id)
        unseen = [self.unseen(said[target].get("category")) for target in video.targets]
        return {**super().measure(video, answers), "unseen": torch.tensor(unseen, dtype=torch.float64)}

    def unseen(self, category: str | None) -> float:
        """1 if no object of the training set has this category, 0 if one has, NaN if nobody knows."""
        return float(category not in self.trained) if category and self.trained else nan

    @cached_property
    def trained(self) -> set[str]:
        """Categories of the training set; none where its description is not here."""
        try:
            videos = read_description(find_description(self.root / "train"))
        except InputError:
            return set()
        objects = (said for video in videos.values() for said in video.get("objects", {}).values())
        return {said["category"] for said in objects if said.get("category")}

    def _spans(self, video: Video) -> list[tuple[int, int]]:
        """For each target, the frame in which it is given and its last listed one."""
        given = {prompt.target: prompt.frame for prompt in video.prompts}
        listed = self.listed_frames(video.id, video.names)
        return [(given[target], listed[target][-1]) for target in video.targets]

    # Submissions.

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """``Annotations/<video>/<frame>.png`` for the listed frames; no object before its given one."""
        given = {prompt.target: prompt.frame for prompt in video.prompts}
        listed = {frame for own in self.listed_frames(video.id, video.names).values() for frame in own}
        wanted = listed.union(self.scored_frames(video))
        for answer in answers:
            if answer.frame in wanted:
                here = tuple(target for target in answer.targets if given.get(target, 0) <= answer.frame)
                kept = FrameMasks(answer.frame, here, answer.select(here), torch.ones(len(here)))
                name = f"{video.name(answer.frame)}.png"
                write_label_map(folder / "Annotations" / video.id / name, kept.label_map())
            yield answer

    def read(self, video: Video, folder: Path, faults: SubmissionErrors) -> Iterator[FrameMasks]:
        """The scored frames, with or without the folder ``Annotations`` around the videos'."""
        inside = folder / "Annotations"
        return super().read(video, inside if inside.is_dir() else folder, faults)
