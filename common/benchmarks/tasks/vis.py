"""What the benchmarks of video instance segmentation share: AP of tracks, and results.json."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common.benchmarks.base import Benchmark
from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.vis import answers_of, entries_of
from common.benchmarks.tasks.vos import answered, true_masks
from common.errors import InputError
from common.files import whole_file, write_text
from common.metrics.tubes import TrackOverlaps
from common.metrics.vis_ap import VISMetrics, match_tracks
from common.video import FrameMasks, Video
from common.video.masks import rle_encode

LEAST = 0.005  # score below which a pair of track and category is no guess; that of the code of UniVS


class Guess(NamedTuple):
    """A track that is taken for an instance of a category, a place in the vocabulary."""

    target: int
    category: int
    score: float


class Guesses:
    """Scores of one video's tracks, summed up while its answers stream in.

    A track's score for a category is the mean of its class scores over the frames that answer for it; each category of
    at least ``LEAST`` is a guess. Without class scores the guess is its category, and the mean of its scores.
    """

    def __init__(self) -> None:
        self.sums: dict[int, Tensor] = {}  # of a track's class scores
        self.scores: dict[int, tuple[int, float]] = {}  # category, and the sum of the scores
        self.frames: dict[int, int] = {}

    def add(self, answer: FrameMasks) -> None:
        """Add the answer to a frame.

        Raises:
            InputError: targets without category and class scores.
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

    def result(self) -> list[Guess]:
        """All guesses, by track and then category."""
        guesses = []
        for target, frames in sorted(self.frames.items()):
            if target in self.sums:
                means = (self.sums[target] / frames).tolist()
                guesses += [Guess(target, category, mean) for category, mean in enumerate(means) if mean >= LEAST]
            else:
                category, total = self.scores[target]
                guesses.append(Guess(target, category, total / frames))
        return guesses


class VISBenchmark(Benchmark):
    """A benchmark scored by AP of YouTube-VIS: a vocabulary is given, all frames count.

    Videos carry ``attributes["video_id"]``, their id in a submission; and if the annotation says so ``crowd``, targets
    that are groups, and ``areas``, the mean area of each target.

    A submission is one JSON: a list of ``{"video_id", "score", "category_id", "segmentations"}``, one COCO RLE or null
    for each frame. A run writes one such file for each video, ``pack`` joins them.
    """

    task = "VIS"
    numbers = ("AP", "AP50", "AP75", "AR1", "AR10")

    def category_ids(self, video: Video) -> list[int]:
        """Id of each category of the vocabulary in submissions."""
        return list(range(1, len(video.vocabulary) + 1))

    def metric(self) -> VISMetrics:
        """A fresh AP."""
        return VISMetrics()

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Which guesses are right; the arguments of ``VISMetrics.extend``. See ``Benchmark.measure``."""
        if video.truth is None:
            raise InputError(f"video {video.id} of {self.name} {self.split} cannot be scored: it has no annotations")
        overlaps, guesses = TrackOverlaps(), Guesses()
        for answer in answered(video, self.scored_frames(video), answers):
            overlaps.add(answer.masks, true_masks(video, answer), answer.targets, video.targets)
            guesses.add(answer)
        found = guesses.result()
        tracks = [guess.target for guess in found]
        areas, crowd = video.attributes.get("areas"), video.attributes.get("crowd", ())
        true_areas = overlaps.mean_areas(video.targets, true=True)
        if areas is not None:
            true_areas = torch.tensor([areas[target] for target in video.targets], dtype=torch.float64)
        return match_tracks(
            overlaps.iou(tracks, video.targets),
            [guess.score for guess in found],
            [guess.category for guess in found],
            [video.categories[target] for target in video.targets],
            overlaps.mean_areas(tracks),
            true_areas,
            [target in crowd for target in video.targets],
            self.ids.index(video.id),
        )

    def columns(self, video: Video, measured: dict[str, Tensor]) -> list[str]:
        """None: AP of one track says nothing."""
        return []

    # Submissions.

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """``<video>.json`` with the entries of one video."""
        rles: dict[int, dict[int, dict[str, Any]]] = {}
        guesses = Guesses()
        for answer in answers:
            guesses.add(answer)
            for target, mask, rle in zip(answer.targets, answer.masks, rle_encode(answer.masks), strict=True):
                if mask.any():
                    rles.setdefault(target, {})[answer.frame] = rle
            yield answer
        ids = self.category_ids(video)
        entries = [
            {
                "video_id": video.attributes["video_id"],
                "score": guess.score,
                "category_id": ids[guess.category],
                "segmentations": [rles.get(guess.target, {}).get(frame) for frame in range(len(video))],
            }
            for guess in guesses.result()
        ]
        write_text(folder / f"{video.id}.json", json.dumps(entries))

    def read(self, video: Video, folder: Path, faults: SubmissionErrors) -> Iterator[FrameMasks]:
        """All frames, an entry a target, from ``<video>.json`` or the one JSON of the submission."""
        size = self.size(video)
        return answers_of(video, entries_of(video, folder, faults), self.category_ids(video), size, faults)

    def size(self, video: Video) -> tuple[int, int]:
        """(H, W) of a video's masks."""
        height, width = video.truth[0].shape[1:] if video.truth is not None else video[0].shape[:2]  # type: ignore
        return height, width

    def pack(self, folder: Path) -> Path:
        """``<folder>.zip`` that holds ``results.json``, the entries of all videos."""
        path = folder.with_name(f"{folder.name}.zip")
        files = sorted(file for file in folder.glob("*.json"))
        entries = [entry for file in files for entry in json.loads(file.read_text(encoding="utf-8"))]
        with whole_file(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("results.json", json.dumps(entries))
        return path
