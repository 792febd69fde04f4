"""VIPOSeg, and what benchmarks of panoptic video object segmentation share: G over things and stuff.

Source: Xu et al., "Video Object Segmentation in Panoptic Wild Scenes", IJCAI 2023.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.benchmarks.layouts.per_split import SplitVOS
from common.benchmarks.layouts.per_video import MaskFolder, first_appearances
from common.benchmarks.plain import read_json
from common.benchmarks.tasks.vos import VOSBenchmark, answered, true_masks
from common.errors import InputError
from common.metrics.viposeg import SUBSETS, VIPOSegMetrics, mask_and_boundary_iou, subset_of
from common.video import FrameMasks, Video


class PVOSBenchmark(VOSBenchmark):
    """A benchmark of given masks of things and stuff; a target counts after the frame in which it is given."""

    task = "PVOS"
    numbers: tuple[str, ...] = ("G", *SUBSETS)

    def scored_frames(self, video: Video) -> Sequence[int]:
        """All annotated frames."""
        return range(len(video)) if video.annotated is None else video.annotated

    def subsets(self, video: Video) -> list[int]:
        """Place of each target in ``SUBSETS``."""
        raise NotImplementedError

    def metric(self) -> VIPOSegMetrics:
        """A fresh G."""
        return VIPOSegMetrics()

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """The arguments of ``VIPOSegMetrics.extend``. See ``Benchmark.measure``."""
        if video.truth is None:
            raise InputError(f"video {video.id} of {self.name} {self.split} cannot be scored: it has no annotations")
        frames = self.scored_frames(video)
        starts = {prompt.target: prompt.frame for prompt in video.prompts}
        given = torch.tensor([starts[target] for target in video.targets])
        rows = [
            torch.stack(mask_and_boundary_iou(answer.select(video.targets), true_masks(video, answer))).cpu()
            for answer in answered(video, frames, answers)
        ]
        later = torch.tensor(frames)[:, None] > given
        mask_iou, boundary_iou = torch.stack(rows, 1).masked_fill(~later, torch.nan)
        known = later.sum(1, keepdim=True).expand_as(later).double()
        subset = torch.tensor(self.subsets(video), dtype=torch.float64)
        return {"mask_iou": mask_iou, "boundary_iou": boundary_iou, "known": known, "subset": subset}


class VIPOSeg(SplitVOS, PVOSBenchmark):
    """VIPOSeg: masks of things and stuff are given in the frames in which they first appear.

    Args:
        root: folder that holds ``train`` and ``valid``.
        split: ``valid`` or ``train``.
        videos: only these, in this order; default: the whole split.
    """

    name = "viposeg"
    folders = ("viposeg",)
    source = "https://github.com/yoxu515/VIPOSeg-Benchmark"
    splits: tuple[str, ...] = ("valid", "train")
    sparse = True
    fps = 5.0
    protocol = (
        "G: mean of thing and stuff, seen and unseen, each the mean of mask and boundary IoU over all frames and "
        "objects given in an earlier frame"
    )
    layout = """
        valid/JPEGImages/<video>/<frame>.jpg
        valid/Annotations/<video>/<frame>.png         where objects first appear
        valid/Annotations_gt/<video>/<frame>.png      all frames; where it is missing, annotations are hidden
        valid/obj_class.json                          class of each object, that of VIPSeg from 0
        train/                                        likewise, all annotations in Annotations"""

    def masks_folder(self, id: str) -> Path:
        """Where a video's label maps lie: the complete ones where they are."""
        complete = self.split_folder / "Annotations_gt" / id
        return complete if complete.is_dir() else super().masks_folder(id)

    def listed(self) -> list[str]:
        """The videos of ``obj_class.json``."""
        return list(self.classes)

    @cached_property
    def classes(self) -> dict[str, dict[int, int]]:
        """Class of each object of each video.

        Raises:
            InputError: the file is missing or not of this form.
        """
        path = self.split_folder / "obj_class.json"
        said: dict[str, Any] = read_json(path, "list of classes")
        try:
            return {video: {int(id): int(kind) for id, kind in objects.items()} for video, objects in said.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise InputError(f'{path}: must be {{"<video>": {{"<object>": <class>}}}} ({error})') from error

    def starts(self, id: str, truth: MaskFolder) -> dict[int, int]:
        """Each object with the frame in which it first appears."""
        given = MaskFolder(self.split_folder / "Annotations" / id, truth.names, truth.given_size, sparse=True)
        starts = first_appearances(given)
        for target in starts.keys() - self.classes[id].keys():
            raise InputError(f"{given.path(starts[target])}: object {target} is not in obj_class.json; unpack it again")
        return starts

    def subsets(self, video: Video) -> list[int]:
        """By class and video, see ``subset_of``."""
        return [subset_of(self.classes[video.id][target], video.id) for target in video.targets]
