"""Everything that is wrong with a data set on disk, with the names of the files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from common.benchmarks.base import Benchmark
from common.benchmarks.checks.files import Problem, scan
from common.benchmarks.layouts.per_video import AbsentFrames, FolderVOS
from common.benchmarks.sav import SAV
from common.errors import InputError
from common.video import Video


@dataclass
class Checked:
    """What was found in one video.

    Attributes:
        video: its name; empty for the list of the videos.
        frames: how many there are.
        annotated: frames with an annotation.
        objects: targets.
        problems: in the order they were found.
    """

    video: str
    frames: int = 0
    annotated: int = 0
    objects: int = 0
    problems: list[Problem] = field(default_factory=list)


def check(benchmark: Benchmark, jobs: int = 1) -> Iterator[Checked]:
    """Read all frames and annotations of a benchmark; a problem does not keep the rest from being looked at.

    Args:
        benchmark: a split, or some of its videos.
        jobs: videos that are looked at side by side; the result does not depend on it.

    Yields:
        What was found in each video, in the benchmark's order. What many have in common is said once.

    Raises:
        InputError: there is no data at all, or a video was asked for that is not in the split.
    """
    if benchmark.layout:
        benchmark.root  # noqa: B018  no data at all is an error and no finding
    try:
        benchmark.listed()
    except InputError as error:
        yield Checked("", problems=[Problem("list", str(error))])
        return
    told: set[Problem] = set()
    with ThreadPoolExecutor(jobs) as pool:
        for checked in pool.map(partial(check_video, benchmark), benchmark.ids):
            checked.problems = [problem for problem in checked.problems if problem not in told]
            told.update(checked.problems)
            yield checked


def check_video(benchmark: Benchmark, id: str) -> Checked:
    """One video: what it is told to be, and its files."""
    video, checked = None, Checked(id)
    try:
        video = benchmark.open(id)
    except (InputError, OSError) as error:
        opening = Problem("other", str(error))
    if isinstance(benchmark, FolderVOS | SAV):
        found = scan(benchmark, id, video)
        checked.frames, checked.annotated, checked.problems = found.frames, found.annotated, found.problems
    elif video is not None:
        checked.frames = len(video)
        checked.annotated, checked.problems = _walk(video)
    if video is None:
        # the files tell more about what kept it from being opened, if it was one of them
        if not any(problem.culprit == opening.culprit for problem in checked.problems):
            checked.problems.insert(0, opening)
        return checked
    checked.objects = len(video.targets)
    if not video.prompts:
        checked.problems.append(Problem("absent id", f"video {id}: no object is given to the model"))
    return checked


def _walk(video: Video) -> tuple[int, list[Problem]]:
    """All frames and annotations of a video, through the video itself: annotated frames, problems."""
    problems, sizes = [], {}
    here = not isinstance(video.frames, AbsentFrames)
    if not here:
        problems.append(Problem("missing frame", f"{video.frames.folder.parent}: no such folder of frames"))  # type: ignore[attr-defined]
    for frame in range(len(video)) if here else ():
        try:
            sizes[frame] = tuple(video[frame].shape[:2])
        except (InputError, OSError) as error:
            problems.append(Problem("bad frame", str(error)))
    if video.truth is None:
        return 0, problems
    annotated, seen = 0, [False] * len(video.targets)
    for frame in range(len(video)) if video.annotated is None else video.annotated:
        where = f"video {video.id}, frame {video.name(frame)}"
        try:
            truth = video.truth[frame]
        except (InputError, OSError) as error:
            problems.append(Problem("bad annotation", str(error)))
            continue
        if truth is None:
            problems.append(Problem("missing annotation", f"{where}: no annotation"))
            continue
        annotated += 1
        seen = [before or bool(mask.any()) for before, mask in zip(seen, truth, strict=True)]
        if sizes.get(frame, truth.shape[1:]) != tuple(truth.shape[1:]):
            text = f"{where}: the annotation is {tuple(truth.shape[1:])} but the frame is {sizes[frame]}"
            problems.append(Problem("wrong size", text))
    absent = [str(target) for target, shown in zip(video.targets, seen, strict=True) if not shown]
    problems += [Problem("absent id", f"video {video.id}: object {target} never appears") for target in absent]
    return annotated, problems


def summary(checked: list[Checked]) -> str:
    """Counts in a few lines."""
    videos = [one for one in checked if one.video]
    counts = {
        "videos": len(videos),
        "frames": sum(one.frames for one in videos),
        "annotated frames": sum(one.annotated for one in videos),
        "objects": sum(one.objects for one in videos),
    }
    kinds = Counter(problem.kind for one in checked for problem in one.problems)
    lines = [", ".join(f"{count} {what}" for what, count in counts.items()), f"problems: {kinds.total() or 'none'}"]
    return "\n".join([*lines, *(f"  {count} {kind}" for kind, count in kinds.most_common())])
