"""Check a data set on disk and report every problem with the file it is in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from common.benchmarks.base import Benchmark
from common.benchmarks.checks.files import Problem, scan_files
from common.benchmarks.layouts.per_video import AbsentFrames, FolderVOS
from common.benchmarks.sav import SAV
from common.errors import InputError
from common.video import Video


@dataclass
class VideoReport:
    """Result of checking one video.

    Attributes:
        video: name of the video; empty for problems with the list of videos.
        frames: number of frames.
        annotated: number of annotated frames.
        objects: number of targets.
        problems: in the order of discovery.
    """

    video: str
    frames: int = 0
    annotated: int = 0
    objects: int = 0
    problems: list[Problem] = field(default_factory=list)


def check_benchmark(benchmark: Benchmark, jobs: int = 1) -> Iterator[VideoReport]:
    """Read all frames and annotations of a benchmark and collect all problems.

    Args:
        benchmark: a split, or a subset of its videos.
        jobs: number of threads; the result does not depend on it.

    Yields:
        One report per video, in the benchmark's order. A problem that several videos share is reported once.

    Raises:
        InputError: the data is missing altogether, or a requested video is not part of the split.
    """
    if benchmark.layout:
        benchmark.root  # noqa: B018  raises if the data is missing, which is an error and not a finding
    try:
        benchmark.list_videos()
    except InputError as error:
        yield VideoReport("", problems=[Problem("list", str(error))])
        return
    reported: set[Problem] = set()
    with ThreadPoolExecutor(jobs) as pool:
        for report in pool.map(partial(check_video, benchmark), benchmark.ids):
            report.problems = [problem for problem in report.problems if problem not in reported]
            reported.update(report.problems)
            yield report


def check_video(benchmark: Benchmark, id: str) -> VideoReport:
    """Check one video and its files.

    Args:
        benchmark: the benchmark.
        id: name of the video.
    """
    video, report = None, VideoReport(id)
    try:
        video = benchmark.open(id)
    except (InputError, OSError) as error:
        opening = Problem("other", str(error))
    if isinstance(benchmark, FolderVOS | SAV):
        scan = scan_files(benchmark, id, video)
        report.frames, report.annotated, report.problems = scan.frames, scan.annotated, scan.problems
    elif video is not None:
        report.frames = len(video)
        report.annotated, report.problems = _check_frames(video)
    if video is None:
        # If a file prevented opening, the scan of the files has already reported it in more detail.
        if not any(problem.culprit == opening.culprit for problem in report.problems):
            report.problems.insert(0, opening)
        return report
    report.objects = len(video.targets)
    if not video.prompts:
        report.problems.append(Problem("absent id", f"video {id}: no object is given to the model"))
    return report


def _check_frames(video: Video) -> tuple[int, list[Problem]]:
    """Read all frames and annotations through ``Video``; return the number of annotated frames and the problems."""
    problems, sizes = [], {}
    absent_frames = video.frames if isinstance(video.frames, AbsentFrames) else None
    if absent_frames is not None:
        problems.append(Problem("missing frame", f"{absent_frames.folder.parent}: no such folder of frames"))
    for frame in range(len(video)) if absent_frames is None else ():
        try:
            sizes[frame] = tuple(video[frame].shape[:2])
        except (InputError, OSError) as error:
            problems.append(Problem("bad frame", str(error)))
    if video.truth is None:
        return 0, problems
    annotated, visible = 0, [False] * len(video.targets)
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
        visible = [before or bool(mask.any()) for before, mask in zip(visible, truth, strict=True)]
        if sizes.get(frame, truth.shape[1:]) != tuple(truth.shape[1:]):
            text = f"{where}: the annotation is {tuple(truth.shape[1:])} but the frame is {sizes[frame]}"
            problems.append(Problem("wrong size", text))
    never = [target for target, appears in zip(video.targets, visible, strict=True) if not appears]
    problems += [Problem("absent id", f"video {video.id}: object {target} never appears") for target in never]
    return annotated, problems


def summary(reports: list[VideoReport]) -> str:
    """Return the counts of videos, frames, objects and problems as a few lines of text.

    Args:
        reports: result of ``check_benchmark``.
    """
    videos = [report for report in reports if report.video]
    counts = {
        "videos": len(videos),
        "frames": sum(report.frames for report in videos),
        "annotated frames": sum(report.annotated for report in videos),
        "objects": sum(report.objects for report in videos),
    }
    kinds = Counter(problem.kind for report in reports for problem in report.problems)
    lines = [", ".join(f"{count} {what}" for what, count in counts.items()), f"problems: {kinds.total() or 'none'}"]
    return "\n".join([*lines, *(f"  {count} {kind}" for kind, count in kinds.most_common())])
