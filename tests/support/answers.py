"""Answers that are not perfect, and what every benchmark does with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from common.benchmarks.base import Benchmark
from common.benchmarks.submissions.errors import SubmissionErrors
from common.video import FrameMasks, Video


def shifted(video: Video, by: int = 1) -> Iterator[FrameMasks]:
    """The annotation moved to the right; where there is none, nothing."""
    assert video.truth is not None
    empty = torch.zeros_like(video.prompts[0].mask).expand(len(video.targets), -1, -1)
    annotated = range(len(video)) if video.annotated is None else video.annotated
    for frame in range(len(video)):
        masks = video.truth[frame] if frame in annotated else None
        moved = empty if masks is None else masks.roll(by, 2)
        yield FrameMasks(frame, video.targets, moved, torch.ones(len(moved)))


def silent(video: Video) -> Iterator[FrameMasks]:
    """Nothing, in every frame."""
    for frame in range(len(video)):
        empty = torch.zeros_like(video.prompts[0].mask)[None]
        yield FrameMasks(frame, video.targets[:1], empty, torch.zeros(1))


def numbers(benchmark: Benchmark, by: int = 1) -> dict[str, float]:
    """The table's numbers of shifted answers."""
    metric = benchmark.metric()
    for video in benchmark:
        metric.extend(**benchmark.measure(video, shifted(video, by)))
    return {key: float(value) for key, value in metric.compute().items()}


def check_round_trip(benchmark: Benchmark, folder: Path) -> None:
    """What is written is read back to the same numbers."""
    metric = benchmark.metric()
    for video in benchmark:
        passed = list(benchmark.write(video, shifted(video), folder))
        assert [answer.frame for answer in passed] == list(range(len(video)))
        metric.extend(**benchmark.measure(video, benchmark.read(video, folder, SubmissionErrors())))
    got = {key: float(value) for key, value in metric.compute().items()}
    assert got == pytest.approx(numbers(benchmark), abs=1e-12, nan_ok=True)
    assert set(benchmark.numbers) <= got.keys()
    assert 0 < got[benchmark.numbers[0]] < 1


def truth(
    video: Video,
    masks: Callable[[int, Tensor], Tensor] = lambda frame, masks: masks,
    ids: Callable[[int, tuple[int, ...]], tuple[int, ...]] = lambda frame, ids: ids,
) -> Iterator[FrameMasks]:
    """The annotation, with categories where there are any; nothing where it is unknown.

    Args:
        video: annotated.
        masks: changes the masks of a frame.
        ids: changes the targets of a frame.
    """
    assert video.truth is not None
    categories = [video.categories.get(target, 0) for target in video.targets]
    nothing = torch.zeros_like(video.truth[0 if video.annotated is None else video.annotated[0]])
    for frame in range(len(video)):
        true = video.truth[frame]
        shown, targets = masks(frame, nothing if true is None else true), ids(frame, video.targets)
        order = sorted(range(len(targets)), key=lambda row: targets[row])
        found, kinds = tuple(targets[row] for row in order), tuple(categories[row] for row in order)
        yield FrameMasks(frame, found, shown[order], torch.ones(len(found)), kinds if video.vocabulary else None)


def scored(benchmark: Benchmark, answers: Callable[[Video], Iterable[FrameMasks]]) -> dict[str, float]:
    """All numbers of some answers to a benchmark."""
    metric = benchmark.metric()
    metric.distributed_available_fn = lambda: False
    for video in benchmark:
        metric.extend(**benchmark.measure(video, answers(video)))
    return {key: float(value) for key, value in metric.compute().items()}
