"""Base class of benchmarks of panoptic video object segmentation: G over things and stuff."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from common.benchmarks.tasks.vos import VOSBenchmark, select_answers, true_masks
from common.errors import InputError
from common.metrics.viposeg import SUBSETS, VIPOSegMetrics, mask_and_boundary_iou
from common.video import FrameMasks, Video


class PVOSBenchmark(VOSBenchmark):
    """A benchmark of given masks of things and stuff; a target is scored after the frame of its prompt."""

    task = "PVOS"
    numbers: tuple[str, ...] = ("G", *SUBSETS)

    def scored_frames(self, video: Video) -> Sequence[int]:
        """Return all annotated frames."""
        return range(len(video)) if video.annotated is None else video.annotated

    @abstractmethod
    def subsets(self, video: Video) -> list[int]:
        """Return the index in ``SUBSETS`` of each target.

        Args:
            video: the video.
        """

    def metric(self) -> VIPOSegMetrics:
        """Create the metric: G."""
        return VIPOSegMetrics()

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Return the arguments of ``VIPOSegMetrics.extend``. See ``Benchmark.measure``."""
        if video.truth is None:
            raise InputError(f"video {video.id} of {self.name} {self.split} cannot be scored: it has no annotations")
        frames = self.scored_frames(video)
        starts = {prompt.target: prompt.frame for prompt in video.prompts}
        prompt_frames = torch.tensor([starts[target] for target in video.targets])
        rows = [
            torch.stack(mask_and_boundary_iou(answer.select(video.targets), true_masks(video, answer))).cpu()
            for answer in select_answers(video, frames, answers)
        ]
        scored = torch.tensor(frames)[:, None] > prompt_frames
        mask_iou, boundary_iou = torch.stack(rows, 1).masked_fill(~scored, torch.nan)
        object_count = scored.sum(1, keepdim=True).expand_as(scored).double()
        subset = torch.tensor(self.subsets(video), dtype=torch.float64)
        return {"mask_iou": mask_iou, "boundary_iou": boundary_iou, "object_count": object_count, "subset": subset}
