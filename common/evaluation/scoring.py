"""Score a method on benchmarks: every video is saved when it is done, and none is lost to another's failure."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from common.errors import InputError
from common.evaluation.profiling import Stopwatch, TimedFrames, gflops, peak_memory_mb
from common.records.provenance import fill_record, run_key
from common.records.record import load_video, save_video
from common.video import FrameMasks, Video

if TYPE_CHECKING:
    from common.benchmarks.base import Benchmark
    from common.segmenter import VideoSegmenter

log = logging.getLogger(__name__)

PREDICTIONS = "predictions"  # folder of the submission in that of a benchmark's run


@dataclass
class Tally:
    """What one process has seen of one benchmark."""

    videos: dict[str, dict[str, float]] = field(default_factory=dict)
    scored: dict[str, int] = field(default_factory=dict)
    frames: int = 0
    seconds: float = 0.0
    peak_mb: float = 0.0
    gflops: float = 0.0


class Scoring:
    """One pass over some benchmarks, a video at a time; with several processes each has its own share of the videos.

    Args:
        segmenter: the method, attached to its trainer.
        benchmarks: in the order of the data loaders.
        root: folder of the run; None keeps nothing (validation while training).
    """

    def __init__(self, segmenter: VideoSegmenter, benchmarks: Sequence[Benchmark], root: Path | None) -> None:
        self.segmenter = segmenter
        self.benchmarks = {f"{benchmark.name}-{benchmark.split}": benchmark for benchmark in benchmarks}
        if len(self.benchmarks) < len(benchmarks):
            raise InputError(f"a benchmark is given twice: {', '.join(f'{b.name}-{b.split}' for b in benchmarks)}")
        self.names = list(self.benchmarks)
        self.root = root
        device = segmenter.device if segmenter.device.type == "cuda" else torch.device("cpu")  # mps has no float64
        self.metrics = {name: benchmark.metric().to(device) for name, benchmark in self.benchmarks.items()}
        self.tallies = {name: Tally() for name in self.names}
        self.keys = {name: run_key(segmenter, self.benchmarks[name]) for name in self.names} if root else {}
        self.failed: dict[str, str] = {}

    def add(self, index: int, video: Video | Exception) -> None:
        """Track and measure one video of the benchmark ``index``. A failure is logged and kept for the end.

        Args:
            video: or the error that opening it gave.
        """
        name = self.names[index]
        if isinstance(video, Exception):
            rank, count = self.segmenter.global_rank, len(self.failed)
            self.fail(f"{name}, not opened ({rank}.{count})", video)
            return
        try:
            measured = self._stored(name, video) or self._measure(name, video)
        except Exception as error:
            self.fail(video.id, error)
            return
        tally = self.tallies[name]
        tally.frames += int(measured.pop("_frames"))
        tally.seconds += float(measured.pop("_seconds"))
        tally.gflops = max(tally.gflops, float(measured.pop("_gflops")))
        if not measured:
            tally.videos[video.id] = {}
            return
        benchmark = self.benchmarks[name]
        tally.scored[video.id] = len(benchmark.scored_frames(video))
        tally.videos[video.id] = benchmark.item_scores(measured)
        self.metrics[name].extend(**measured)

    def fail(self, video_id: str, error: Exception) -> None:
        """Remember a video that could not be scored; a fault of ours is logged with its traceback."""
        self.failed[video_id] = reason(error)
        fault = None if isinstance(error, InputError) else error
        log.error("%s failed, going on with the next video: %s", video_id, reason(error), exc_info=fault)

    def finish(self) -> dict[str, Tensor]:
        """The numbers over all processes, ``<benchmark>-<split>/<number>``; complete benchmarks get a record."""
        numbers: dict[str, Tensor] = {}
        for failures in _from_all(self.failed):
            self.failed |= failures
        for name, benchmark in self.benchmarks.items():
            tallies = _from_all(self.tallies[name])
            videos = {video: alone for tally in tallies for video, alone in tally.videos.items()}
            scored = {video: count for tally in tallies for video, count in tally.scored.items()}
            values = self.metrics[name].compute() if scored else {}
            numbers |= {f"{name}/{key}": value for key, value in values.items()}
            if self.root is None:
                continue
            if len(videos) != len(benchmark):
                log.warning("%s: %d of %d videos done, so no results.json", name, len(videos), len(benchmark))
            elif self.segmenter.trainer.is_global_zero:
                self._pack(name)
                if not scored:
                    log.info("%s: no public annotations, so no results.json", name)
                    continue
                metrics = {key: float(value) for key, value in values.items()}
                record = fill_record(self.segmenter, benchmark, metrics, videos, scored)
                seconds = sum(tally.seconds for tally in tallies)
                record.frames_per_second = sum(tally.frames for tally in tallies) / seconds if seconds else None
                record.peak_memory_mb = max(tally.peak_mb for tally in tallies) or None
                record.parameters = sum(parameter.numel() for parameter in self.segmenter.parameters()) or None
                record.gflops = max(tally.gflops for tally in tallies) or None
                log.info("%s", record.write(self.root / name))
        return numbers

    def _stored(self, name: str, video: Video) -> dict[str, Tensor] | None:
        """What an interrupted or earlier run of the same code, settings and weights measured."""
        return load_video(self.root / name / "per_video", video.id, self.keys[name]) if self.root else None

    def _measure(self, name: str, video: Video) -> dict[str, Tensor]:
        """Measure while the answers stream in. The time is the method's alone: without decoding and scoring."""
        device = self.segmenter.device
        decoding, tracking = Stopwatch(device), Stopwatch(device)
        timed = dataclasses.replace(video, frames=TimedFrames(video.frames, decoding))
        answers = tracking.watch(self.segmenter.track(timed))
        benchmark, hidden = self.benchmarks[name], video.truth is None and self.root is not None
        if self.root and (hidden or self.segmenter.save_predictions):
            answers = benchmark.write(video, answers, self.root / name / PREDICTIONS)
        measured = benchmark.measure(video, answers) if not hidden else _drained(answers)
        if tracking.items != len(video):
            raise InputError(f"video {video.id}: {tracking.items} answers to {len(video)} frames")
        self.tallies[name].peak_mb = max(self.tallies[name].peak_mb, peak_memory_mb(device))
        measured["_frames"] = torch.tensor(tracking.items)
        measured["_seconds"] = torch.tensor(tracking.seconds - decoding.seconds, dtype=torch.float64)
        first = self.root and video.id == benchmark.ids[0]
        measured["_gflops"] = torch.tensor(gflops(self.segmenter, video) if first else 0.0, dtype=torch.float64)
        if self.root:
            save_video(self.root / name / "per_video", video.id, measured, self.keys[name])
        return measured

    def _pack(self, name: str) -> None:
        """Make the file for the server, if a submission was written and some server takes it."""
        assert self.root is not None
        folder = self.root / name / PREDICTIONS
        packed = self.benchmarks[name].pack(folder) if folder.is_dir() else None
        if packed:
            log.info("%s: submission %s", name, packed)


def _drained(answers: Iterator[FrameMasks]) -> dict[str, Tensor]:
    """Answers that nothing is measured of."""
    for _ in answers:
        pass
    return {}


def reason(error: Exception) -> str:
    """One line that says what went wrong."""
    lines = str(error).strip().splitlines()
    text = lines[-1] if lines else ""
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


def _from_all(mine: object) -> list:
    """What every process holds, in the order of ranks."""
    if not (dist.is_available() and dist.is_initialized()):
        return [mine]
    everyone: list = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, mine)
    return everyone
