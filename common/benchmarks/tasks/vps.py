"""Base class of benchmarks of video panoptic segmentation: VPQ, STQ, and segment maps."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.benchmarks.base import Benchmark
from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.vps import read_segments, read_segments_info
from common.benchmarks.tasks.vos import select_answers, true_masks, true_size
from common.benchmarks.tasks.vss import answer_categories
from common.errors import InputError
from common.files import atomic_path, write_text
from common.metrics.rows import RowMetric
from common.metrics.stq import STQMetrics, TubeFrames
from common.metrics.tubes import Segments
from common.metrics.vpq import WINDOWS, PanopticWindows, VPQMetrics
from common.video import FrameMasks, Video
from common.video.masks import boxes_from_masks, unique_ids

FOLDER = "pan_pred"


class PanopticQuality(RowMetric):
    """VPQ and STQ in one metric; ``compute`` returns the numbers of both.

    Args:
        things: indices of the thing classes.
        windows: window lengths in frames, see ``VPQMetrics``.
        official_compat: reproduce the official programs, see ``VPSBenchmark``.
        kwargs: arguments of ``torchmetrics.Metric``.
    """

    def __init__(
        self, things: Collection[int], windows: Sequence[int] = WINDOWS, official_compat: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(7, **kwargs)
        self.settings = (frozenset(things), tuple(windows), official_compat)

    def update(self, preds: Sequence[Segments], target: Sequence[Segments]) -> None:
        """Add one video.

        Args:
            preds: predicted segments of each annotated frame.
            target: annotated segments of the same frames.
        """
        self.extend(**panoptic_counts(zip(preds, target, strict=True), *self.settings))

    def extend(self, part: Tensor, counts: Tensor) -> None:
        """Add the result of ``panoptic_counts``.

        Args:
            part: (N,), 0 for columns of VPQ and 1 for columns of STQ.
            counts: (6, N).
        """
        self.add(torch.cat([part[None], counts]).T)

    def compute(self) -> dict[str, Tensor]:
        """Return the numbers as float64 scalars; NaN before the first video."""
        things, windows, compat = self.settings
        parts: list[RowMetric] = [VPQMetrics(things, windows, compat), STQMetrics(things, compat)]
        rows, out = self.sorted_rows(), dict[str, Tensor]()
        for index, part in enumerate(parts):
            part.distributed_available_fn = lambda: False  # ``rows`` are already those of all processes
            part.to(rows.device).add(rows[rows[:, 0] == index, 1:])
            out |= part.compute()
        return out


def panoptic_counts(
    frames: Iterable[tuple[Segments, Segments]],
    things: Collection[int],
    windows: Sequence[int] = WINDOWS,
    official_compat: bool = True,
) -> dict[str, Tensor]:
    """Count segments and tubes of one video.

    Args:
        frames: predicted and annotated segments of each annotated frame.
        things: indices of the thing classes.
        windows: window lengths in frames.
        official_compat: reproduce the official programs.

    Returns:
        The arguments of ``PanopticQuality.extend``.
    """
    quality, tubes = PanopticWindows(windows, official_compat), TubeFrames(things, official_compat)
    for pair in frames:
        quality.add(*pair)
        tubes.add(*pair)
    counts = [torch.stack(list(counter.result().values())) for counter in (quality, tubes)]
    parts = [torch.full((table.shape[1],), index, dtype=torch.float64) for index, table in enumerate(counts)]
    return {"part": torch.cat(parts), "counts": torch.cat(counts, 1)}


class VPSBenchmark(Benchmark):
    """A benchmark scored by VPQ and STQ: a vocabulary is given, with its stuff classes.

    A submission has RGB images ``pan_pred/<video>/<frame>.png`` with segment id R + 256 G + 65536 B, 0 for none, and
    ``pred.json``, ``{"annotations": [{"video_id", "annotations": [{"file_name", "segments_info": [{"id",
    "category_id", "iscrowd", "area", "bbox"}]}]}]}``. A run writes ``pan_pred/<video>.json`` per video; ``pack`` joins
    them.

    Attributes:
        official_compat: reproduce the programs of VIPSeg, see ``STQMetrics`` and ``PanopticWindows``.
    """

    task = "VPS"
    official_compat = False
    numbers = ("VPQ", "VPQ_thing", "VPQ_stuff", "STQ", "AQ", "SQ")

    def category_ids(self, video: Video) -> list[int]:
        """Return the id of each category of the vocabulary in submissions.

        Args:
            video: the video.
        """
        return list(range(len(video.vocabulary)))

    def things(self) -> list[int]:
        """Return the indices of the thing classes in the vocabulary."""
        video = self[0]
        return [index for index, name in enumerate(video.vocabulary) if name not in video.stuff]

    def metric(self) -> PanopticQuality:
        """Create the metric: VPQ and STQ."""
        return PanopticQuality(self.things(), official_compat=self.official_compat)

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Count segments: the arguments of ``PanopticQuality.extend``. See ``Benchmark.measure``."""
        if video.truth is None:
            raise InputError(f"video {video.id} of {self.name} {self.split} cannot be scored: it has no annotations")
        crowd = frozenset(video.attributes.get("crowd", ()))
        scored = select_answers(video, self.scored_frames(video), answers)
        pairs = ((predicted_segments(answer), true_segments(video, answer, crowd)) for answer in scored)
        return panoptic_counts(pairs, self.things(), official_compat=self.official_compat)

    def column_names(self, video: Video, measured: dict[str, Tensor]) -> list[str]:
        """Return no columns: the counts are per class and window, not per object."""
        return []

    # Submissions.

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """Write ``pan_pred/<video>/<frame>.png`` and ``pan_pred/<video>.json`` for annotated frames.

        See ``Benchmark.write``.
        """
        maps, category_ids, annotations = folder / FOLDER, self.category_ids(video), []
        annotated = None if video.annotated is None else set(video.annotated)
        for answer in answers:
            if annotated is None or answer.frame in annotated:
                name = f"{video.name(answer.frame)}.png"
                segments = predicted_segments(answer)
                write_segment_ids(maps / video.id / name, segments.ids)
                annotations.append({"file_name": name, "segments_info": _segments_info(segments, category_ids)})
            yield answer
        entry = {"video_id": video.attributes.get("video_id", video.id), "annotations": annotations}
        write_text(maps / f"{video.id}.json", json.dumps(entry))

    def read(self, video: Video, folder: Path, errors: SubmissionErrors) -> Iterator[FrameMasks]:
        """Read the scored frames, with or without the enclosing folder ``pan_pred``. See ``Benchmark.read``."""
        maps = folder / FOLDER if (folder / FOLDER).is_dir() else folder
        segments_info = read_segments_info(video, maps, errors)
        size, category_ids = true_size(video), self.category_ids(video)
        for frame in self.scored_frames(video):
            yield read_segments(video, frame, maps, segments_info, category_ids, size, errors)

    def pack(self, folder: Path) -> Path:
        """Write ``<folder>.zip`` with ``pan_pred`` and ``pred.json``. See ``Benchmark.pack``."""
        path, maps = folder.with_name(f"{folder.name}.zip"), folder / FOLDER
        entries = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(maps.glob("*.json"))]
        with atomic_path(path) as part, zipfile.ZipFile(part, "w") as archive:
            for file in sorted(maps.glob("*/*.png")):
                archive.write(file, file.relative_to(folder))
            archive.writestr("pred.json", json.dumps({"annotations": entries}))
        return path


def predicted_segments(answer: FrameMasks) -> Segments:
    """Convert a prediction to a segment map; segments without pixels are omitted.

    Args:
        answer: prediction with categories or class scores.

    Raises:
        InputError: the prediction has neither.
    """
    return _segment_map(answer.masks, answer.targets, dict(zip(answer.targets, answer_categories(answer), strict=True)))


def true_segments(video: Video, answer: FrameMasks, crowd: frozenset[int] = frozenset()) -> Segments:
    """Return the annotation of a predicted frame as a segment map.

    Args:
        video: the video.
        answer: prediction of the frame.
        crowd: ids of segments that are groups of objects.
    """
    return _segment_map(true_masks(video, answer), video.targets, video.categories, crowd)


def _segment_map(
    masks: Tensor, targets: Sequence[int], categories: dict[int, int], crowd: frozenset[int] = frozenset()
) -> Segments:
    ids = torch.zeros(masks.shape[1:], dtype=torch.int64, device=masks.device)
    for target, mask in zip(targets, masks, strict=True):
        ids[mask] = target
    return Segments(ids, {id: categories[id] for id in unique_ids(ids)}, crowd)


def _segments_info(segments: Segments, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Return the submission's entry of each segment of a frame; boxes are (x, y, width, height)."""
    entries = []
    for id, category in segments.categories.items():
        mask = segments.ids == id
        x0, y0, x1, y1 = boxes_from_masks(mask[None])[0].int().tolist()
        entry = {"id": id, "category_id": category_ids[category], "iscrowd": 0, "area": int(mask.sum())}
        entries.append({**entry, "bbox": [x0, y0, x1 - x0, y1 - y0]})
    return entries


def write_segment_ids(path: Path, ids: Tensor) -> None:
    """Write segment ids as an RGB PNG: id = R + 256 G + 65536 B.

    Args:
        path: the file.
        ids: integer (H, W) below 2^24.
    """
    colours = torch.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], -1).to(torch.uint8)
    with atomic_path(path) as part:
        Image.fromarray(np.ascontiguousarray(colours.cpu().numpy())).save(part, "PNG", compress_level=3)
