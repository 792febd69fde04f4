"""Base class of benchmarks of video instance segmentation: AP of tracks, and results.json."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common.benchmarks.base import Benchmark
from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.vis import entry_predictions, read_entries
from common.benchmarks.tasks.vos import select_answers, true_masks, true_size
from common.errors import InputError
from common.files import atomic_path, write_text
from common.metrics.tubes import TrackOverlaps
from common.metrics.vis_ap import VISMetrics, match_tracks
from common.video import FrameMasks, Video
from common.video.masks import rle_encode

MIN_SCORE = 0.005  # pairs of track and category below it are no detections; the threshold of UniVS's released code


class Detection(NamedTuple):
    """A track as an instance of a category.

    Attributes:
        target: id of the track.
        category: index in the vocabulary.
        score: confidence.
    """

    target: int
    category: int
    score: float


class Detections:
    """Detections of one video, accumulated frame by frame.

    A track's score for a category is the mean of its class scores over the frames that contain it; every category with
    a score of at least ``MIN_SCORE`` is a detection. Without class scores the track is one detection, with its category
    and the mean of its scores.
    """

    def __init__(self) -> None:
        self.sums: dict[int, Tensor] = {}  # track -> sum of its class scores (C,)
        self.scores: dict[int, tuple[int, float]] = {}  # track -> category, sum of its scores
        self.frames: dict[int, int] = {}

    def add(self, answer: FrameMasks) -> None:
        """Add the prediction of a frame.

        Args:
            answer: prediction with categories or class scores.

        Raises:
            InputError: it has neither.
        """
        for row, target in enumerate(answer.targets):
            self.frames[target] = self.frames.get(target, 0) + 1
            if answer.class_scores is not None:
                scores = answer.class_scores[row].double().cpu()
                self.sums[target] = self.sums[target] + scores if target in self.sums else scores
            elif answer.categories is not None:
                _, before = self.scores.get(target, (0, 0.0))
                self.scores[target] = answer.categories[row], before + float(answer.scores[row])
            else:
                raise InputError(f"frame {answer.frame}: target {target} has no category; a vocabulary asks for one")

    def result(self) -> list[Detection]:
        """Return all detections, ordered by track and category."""
        detections = []
        for target, frames in sorted(self.frames.items()):
            if target in self.sums:
                means = (self.sums[target] / frames).tolist()
                detections += [
                    Detection(target, category, mean) for category, mean in enumerate(means) if mean >= MIN_SCORE
                ]
            else:
                category, total = self.scores[target]
                detections.append(Detection(target, category, total / frames))
        return detections


class VISBenchmark(Benchmark):
    """A benchmark scored by the AP of YouTube-VIS: a vocabulary is given, all frames are scored.

    ``attributes`` of a video hold ``video_id``, its id in a submission, and, if annotated, ``crowd``, the targets that
    are groups, and ``areas``, the mean area of each target.

    A submission is one JSON list of ``{"video_id", "score", "category_id", "segmentations"}``, with one COCO RLE or
    null per frame. A run writes one such file per video; ``pack`` joins them.
    """

    task = "VIS"
    numbers = ("AP", "AP50", "AP75", "AR1", "AR10")

    def category_ids(self, video: Video) -> list[int]:
        """Return the id of each category of the vocabulary in submissions.

        Args:
            video: the video.
        """
        return list(range(1, len(video.vocabulary) + 1))

    @property
    def video_ids(self) -> Collection[int]:
        """The ids that ``video_id`` of a submission may have; empty: not known."""
        return ()

    def metric(self) -> VISMetrics:
        """Create the metric: AP of tracks."""
        return VISMetrics()

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Match detections to true tracks: the arguments of ``VISMetrics.extend``. See ``Benchmark.measure``."""
        if video.truth is None:
            raise InputError(f"video {video.id} of {self.name} {self.split} cannot be scored: it has no annotations")
        overlaps, accumulator = TrackOverlaps(), Detections()
        for answer in select_answers(video, self.scored_frames(video), answers):
            overlaps.add(answer.masks, true_masks(video, answer), answer.targets, video.targets)
            accumulator.add(answer)
        detections = accumulator.result()
        tracks = [detection.target for detection in detections]
        areas, crowd = video.attributes.get("areas"), video.attributes.get("crowd", ())
        true_areas = overlaps.mean_areas(video.targets, true=True)
        if areas is not None:
            true_areas = torch.tensor([areas[target] for target in video.targets], dtype=torch.float64)
        return match_tracks(
            overlaps.iou(tracks, video.targets),
            [detection.score for detection in detections],
            [detection.category for detection in detections],
            [video.categories[target] for target in video.targets],
            overlaps.mean_areas(tracks),
            true_areas,
            [target in crowd for target in video.targets],
            self.ids.index(video.id),
        )

    def column_names(self, video: Video, measured: dict[str, Tensor]) -> list[str]:
        """Return no columns: AP is not defined for a single track."""
        return []

    # Submissions.

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """Write ``<video>.json`` with the entries of one video. See ``Benchmark.write``."""
        rles: dict[int, dict[int, dict[str, Any]]] = {}
        detections = Detections()
        for answer in answers:
            detections.add(answer)
            for target, mask, rle in zip(answer.targets, answer.masks, rle_encode(answer.masks), strict=True):
                if mask.any():
                    rles.setdefault(target, {})[answer.frame] = rle
            yield answer
        ids = self.category_ids(video)
        entries = [
            {
                "video_id": video.attributes["video_id"],
                "score": detection.score,
                "category_id": ids[detection.category],
                "segmentations": [rles.get(detection.target, {}).get(frame) for frame in range(len(video))],
            }
            for detection in detections.result()
        ]
        write_text(folder / f"{video.id}.json", json.dumps(entries))

    def read(self, video: Video, folder: Path, errors: SubmissionErrors) -> Iterator[FrameMasks]:
        """Read all frames from ``<video>.json`` or the only JSON file; an entry is a target. See ``Benchmark.read``."""
        size = self.size(video)
        # the entries of all videos are in one file; those of unknown videos are reported with the first one
        known = self.video_ids if video.id == self.ids[0] else ()
        entries = read_entries(video, folder, errors, known)
        return entry_predictions(video, entries, self.category_ids(video), size, errors)

    def size(self, video: Video) -> tuple[int, int]:
        """Return the size (H, W) of a video's masks.

        Args:
            video: the video.
        """
        return true_size(video)

    def pack(self, folder: Path) -> Path:
        """Write ``<folder>.zip`` with ``results.json``, the entries of all videos. See ``Benchmark.pack``."""
        path = folder.with_name(f"{folder.name}.zip")
        files = sorted(file for file in folder.glob("*.json"))
        entries = [entry for file in files for entry in json.loads(file.read_text(encoding="utf-8"))]
        with atomic_path(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("results.json", json.dumps(entries))
        return path
