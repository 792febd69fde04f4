"""What the benchmarks of semi-supervised video object segmentation share: J&F over streamed answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from common.benchmarks.base import Benchmark
from common.errors import InputError
from common.metrics import JAndF, boundary_accuracy, region_similarity
from common.video import FrameMasks, Video


class VosBenchmark(Benchmark):
    """A benchmark scored by J&F: every target of ``video.targets`` on every scored frame, flat mean over targets.

    A target without an answer is an empty mask; an answer for an id that is not asked for is left out.
    """

    def metric(self) -> JAndF:
        """A fresh J&F."""
        return JAndF()

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """J and F of one video, float64 (T, N) each for T scored frames, on the CPU. See ``Benchmark.measure``."""
        scored = set(self.scored_frames(video))
        if video.truth is None or not scored:
            reason = "it has no annotations" if video.truth is None else f"none of its {len(video)} frames count"
            raise InputError(f"video {video.id} of {self.name} {self.split} cannot be scored: {reason}")
        j, f = [], []
        for answer in _in_order(video, answers):
            if answer.frame not in scored:
                continue
            pred, target = answer.select(video.targets), _truth(video, answer)
            j.append(region_similarity(pred, target).cpu())
            f.append(boundary_accuracy(pred, target).cpu())
        return {"j": torch.stack(j), "f": torch.stack(f)}


def _in_order(video: Video, answers: Iterable[FrameMasks]) -> Iterator[FrameMasks]:
    """The answers, checked: every frame of the video once, in order."""
    expected = 0
    for answer in answers:
        if answer.frame != expected:
            raise InputError(f"video {video.id}: frame {expected} has no answer, frame {answer.frame} came instead")
        expected += 1
        yield answer
    if expected != len(video):
        raise InputError(f"video {video.id}: frame {expected} has no answer ({len(video)} frames)")


def _truth(video: Video, answer: FrameMasks) -> Tensor:
    """Annotation bool (N, H, W) of the answered frame, on the answer's device."""
    assert video.truth is not None
    truth, where = video.truth[answer.frame], f"video {video.id}, frame {video.name(answer.frame)}"
    if truth is None:
        raise InputError(f"{where}: it counts but has no annotation")
    if truth.shape[1:] != answer.masks.shape[1:]:
        got, want = tuple(answer.masks.shape[1:]), tuple(truth.shape[1:])
        raise InputError(f"{where}: the answer is {got} but the annotation is {want}; answer at the video's resolution")
    return truth.to(answer.masks.device)
