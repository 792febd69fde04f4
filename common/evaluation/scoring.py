"""Score a method on benchmarks: each video is saved when it is done, and a failed video does not stop the others."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from common.benchmarks.base import Benchmark
from common.errors import InputError
from common.evaluation.profiling import Stopwatch, TimedFrames, counted_frames, gflops, peak_memory_mb
from common.inference.session import Session
from common.records.per_video import load_video, save_video
from common.records.run import RunInfo
from common.video import FrameMasks, Video

log = logging.getLogger(__name__)

PREDICTIONS = "predictions"  # folder of the submission in that of a benchmark's run


@dataclass
class Tally:
    """Counts of one process on one benchmark."""

    videos: dict[str, dict[str, float]] = field(default_factory=dict)
    scored: dict[str, int] = field(default_factory=dict)
    frames: int = 0
    seconds: float = 0.0
    peak_mb: float = 0.0
    gflops: float = 0.0


class Scoring:
    """One pass over several benchmarks, one video at a time. With several processes, each has its share of the videos.

    Args:
        track: yields the answers to a video, frames in order.
        open_session: opens a session for a number of frames, for counting operations.
        run: the method's settings, weights and code.
        benchmarks: in the order of the data loaders.
        device: device of the method.
        root: folder of the run; None stores nothing (validation during training).
        rank: of this process.
        save_predictions: also write the benchmarks' submission files.

    Raises:
        InputError: a benchmark is given twice.
    """

    def __init__(
        self,
        track: Callable[[Video], Iterator[FrameMasks]],
        open_session: Callable[[int | None], Session],
        run: RunInfo,
        benchmarks: Sequence[Benchmark],
        device: torch.device,
        root: Path | None = None,
        rank: int = 0,
        save_predictions: bool = False,
    ) -> None:
        self.track, self.open_session, self.run = track, open_session, run
        self.device, self.root, self.rank, self.save_predictions = device, root, rank, save_predictions
        self.benchmarks = {f"{benchmark.name}-{benchmark.split}": benchmark for benchmark in benchmarks}
        if len(self.benchmarks) < len(benchmarks):
            raise InputError(f"a benchmark is given twice: {', '.join(f'{b.name}-{b.split}' for b in benchmarks)}")
        self.names = list(self.benchmarks)
        metric_device = device if device.type == "cuda" else torch.device("cpu")  # mps has no float64
        self.metrics = {name: benchmark.metric().to(metric_device) for name, benchmark in self.benchmarks.items()}
        self.tallies = {name: Tally() for name in self.names}
        self.keys = {
            name: run.key(benchmark.name, benchmark.split, benchmark.protocol)
            for name, benchmark in self.benchmarks.items()
        }
        self.failed: dict[str, str] = {}

    def add(self, index: int, video: Video | Exception) -> None:
        """Track and measure one video. A failure is logged and stored in ``failed``.

        Args:
            index: of the benchmark.
            video: the video, or the error raised when it was opened.
        """
        name = self.names[index]
        if isinstance(video, Exception):
            self.fail(f"{name}, not opened ({self.rank}.{len(self.failed)})", video)
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
        """Store and log a video that could not be scored; only unexpected errors are logged with their traceback.

        Args:
            video_id: of the video.
            error: the reason.
        """
        self.failed[video_id] = reason(error)
        unexpected = None if isinstance(error, InputError) else error
        log.error("%s failed, continuing with the next video: %s", video_id, reason(error), exc_info=unexpected)

    def finish(self) -> dict[str, Tensor]:
        """Return the numbers over all processes by ``<benchmark>-<split>/<number>``; write records where complete."""
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
            elif self.rank == 0:
                self._pack(name)
                if not scored:
                    log.info("%s: no public annotations, so no results.json", name)
                    continue
                seconds = sum(tally.seconds for tally in tallies)
                record = self.run.record(
                    benchmark=benchmark.name,
                    split=benchmark.split,
                    metrics={key: float(value) for key, value in values.items()},
                    videos=dict(sorted(videos.items())),
                    protocol=benchmark.protocol,
                    protocol_id=benchmark.protocol_id(scored),
                    frames_per_second=sum(tally.frames for tally in tallies) / seconds if seconds else None,
                    peak_memory_mb=max(tally.peak_mb for tally in tallies) or None,
                    gflops=max(tally.gflops for tally in tallies) or None,
                )
                log.info("%s", record.write(self.root / name))
        return numbers

    def _stored(self, name: str, video: Video) -> dict[str, Tensor] | None:
        """Return what an interrupted or earlier run of the same code, settings and weights measured."""
        if self.root is None:
            return None
        stored = load_video(self.root / name / "per_video", video.id, self.keys[name])
        return None if stored is None else {key: torch.from_numpy(value) for key, value in stored.items()}

    def _measure(self, name: str, video: Video) -> dict[str, Tensor]:
        """Measure while the answers stream in. Decoding and scoring do not count as time of the method."""
        decoding, tracking = Stopwatch(self.device), Stopwatch(self.device)
        timed = dataclasses.replace(video, frames=TimedFrames(video.frames, decoding))
        answers = tracking.watch(self.track(timed))
        benchmark, hidden = self.benchmarks[name], video.truth is None and self.root is not None
        if self.root and (hidden or self.save_predictions):
            answers = benchmark.write(video, answers, self.root / name / PREDICTIONS)
        measured = benchmark.measure(video, answers) if not hidden else _drained(answers)
        if tracking.items != len(video):
            raise InputError(f"video {video.id}: {tracking.items} answers to {len(video)} frames")
        self.tallies[name].peak_mb = max(self.tallies[name].peak_mb, peak_memory_mb(self.device))
        measured["_frames"] = torch.tensor(tracking.items)
        measured["_seconds"] = torch.tensor(tracking.seconds - decoding.seconds, dtype=torch.float64)
        operations = 0.0
        if self.root and video.id == benchmark.ids[0]:
            operations = gflops(self.open_session(counted_frames(video)), video, self.device)
        measured["_gflops"] = torch.tensor(operations, dtype=torch.float64)
        if self.root:
            arrays = {key: value.cpu().numpy() for key, value in measured.items()}
            save_video(self.root / name / "per_video", video.id, arrays, self.keys[name])
        return measured

    def _pack(self, name: str) -> None:
        """Pack the submission for the benchmark's server, where one was written and a server exists."""
        assert self.root is not None
        folder = self.root / name / PREDICTIONS
        packed = self.benchmarks[name].pack(folder) if folder.is_dir() else None
        if packed:
            log.info("%s: submission %s", name, packed)


def _drained(answers: Iterator[FrameMasks]) -> dict[str, Tensor]:
    """Consume answers without measuring anything."""
    for _ in answers:
        pass
    return {}


def reason(error: Exception) -> str:
    """Return the reason for an error in one line.

    Args:
        error: its last line is taken, which names the cause.
    """
    lines = str(error).strip().splitlines()
    text = lines[-1] if lines else ""
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


def _from_all(mine: Any) -> list[Any]:
    """Return the objects of all processes, in the order of ranks."""
    if not (dist.is_available() and dist.is_initialized()):
        return [mine]
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, mine)
    return everyone
