"""What the benchmarks of video panoptic segmentation share: VPQ, STQ, and maps of segments."""

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
from common.benchmarks.submissions.vps import annotations_of, segments_of
from common.benchmarks.tasks.vos import answered, true_masks
from common.benchmarks.tasks.vss import categories_of, true_size
from common.errors import InputError
from common.files import whole_file, write_text
from common.metrics.rows import RowMetric
from common.metrics.stq import STQMetrics, TubeFrames
from common.metrics.tubes import Segments
from common.metrics.vpq import WINDOWS, PanopticWindows, VPQMetrics
from common.video import FrameMasks, Video
from common.video.masks import boxes_from_masks

PREDICTED = "pan_pred"


class PanopticQuality(RowMetric):
    """VPQ and STQ side by side; ``compute`` returns the numbers of both.

    Args:
        things: the classes of countable objects.
        windows: see ``VPQMetrics``.
        official_compat: see ``VPSBenchmark``.
        kwargs: those of ``torchmetrics.Metric``.
    """

    def __init__(
        self, things: Collection[int], windows: Sequence[int] = WINDOWS, official_compat: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(7, **kwargs)
        self.settings = (frozenset(things), tuple(windows), official_compat)

    def update(self, preds: Sequence[Segments], target: Sequence[Segments]) -> None:
        """Add one video, all its annotated frames."""
        self.extend(**panoptic_counts(zip(preds, target, strict=True), *self.settings))

    def extend(self, part: Tensor, counts: Tensor) -> None:
        """Add what ``panoptic_counts`` has measured: (N,), 0 for VPQ and 1 for STQ, and (6, N)."""
        self.add(torch.cat([part[None], counts]).T)

    def compute(self) -> dict[str, Tensor]:
        """The table's numbers as float64 scalars; NaN before the first video."""
        things, windows, compat = self.settings
        parts: list[RowMetric] = [VPQMetrics(things, windows, compat), STQMetrics(things, compat)]
        rows, out = self.sorted_rows(), dict[str, Tensor]()
        for place, part in enumerate(parts):
            part.distributed_available_fn = lambda: False  # the rows of all processes are here
            part.to(rows.device).add(rows[rows[:, 0] == place, 1:])
            out |= part.compute()
        return out


def panoptic_counts(
    frames: Iterable[tuple[Segments, Segments]],
    things: Collection[int],
    windows: Sequence[int] = WINDOWS,
    official_compat: bool = True,
) -> dict[str, Tensor]:
    """Counts of one video, predicted and true segments of each frame; the arguments of ``PanopticQuality.extend``."""
    quality, tubes = PanopticWindows(windows, official_compat), TubeFrames(things, official_compat)
    for pair in frames:
        quality.add(*pair)
        tubes.add(*pair)
    counts = [torch.stack(list(some.result().values())) for some in (quality, tubes)]
    part = torch.cat([torch.full((some.shape[1],), place, dtype=torch.float64) for place, some in enumerate(counts)])
    return {"part": part, "counts": torch.cat(counts, 1)}


class VPSBenchmark(Benchmark):
    """A benchmark scored by VPQ and STQ: a vocabulary is given, and which of its names are stuff.

    A submission is ``pan_pred/<video>/<frame>.png``, RGB, segment R + 256 G + 65536 B and 0 for none, and
    ``pred.json``, ``{"annotations": [{"video_id", "annotations": [{"file_name", "segments_info": [{"id",
    "category_id", "iscrowd", "area", "bbox"}]}]}]}``. A run writes ``pan_pred/<video>.json`` for each video, ``pack``
    joins them.

    Attributes:
        official_compat: score as the programs of VIPSeg do, see ``STQMetrics`` and ``PanopticWindows``.
    """

    task = "VPS"
    official_compat = False
    numbers = ("VPQ", "VPQ_thing", "VPQ_stuff", "STQ", "AQ", "SQ")

    def category_ids(self, video: Video) -> list[int]:
        """Id of each category of the vocabulary in submissions."""
        return list(range(len(video.vocabulary)))

    def things(self) -> list[int]:
        """The places of countable names in the vocabulary."""
        video = self[0]
        return [place for place, name in enumerate(video.vocabulary) if name not in video.stuff]

    def metric(self) -> PanopticQuality:
        """Fresh metrics."""
        return PanopticQuality(self.things(), official_compat=self.official_compat)

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Counts of segments; the arguments of ``PanopticQuality.extend``. See ``Benchmark.measure``."""
        if video.truth is None:
            raise InputError(f"video {video.id} of {self.name} {self.split} cannot be scored: it has no annotations")
        crowd = frozenset(video.attributes.get("crowd", ()))
        kept = answered(video, self.scored_frames(video), answers)
        pairs = ((segments(answer), true_segments(video, answer, crowd)) for answer in kept)
        return panoptic_counts(pairs, self.things(), official_compat=self.official_compat)

    def columns(self, video: Video, measured: dict[str, Tensor]) -> list[str]:
        """None: what is measured are counts of classes, for each length of window."""
        return []

    # Submissions.

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """``pan_pred/<video>/<frame>.png`` and ``pan_pred/<video>.json``, for the annotated frames."""
        place, ids, said = folder / PREDICTED, self.category_ids(video), []
        wanted = None if video.annotated is None else set(video.annotated)
        for answer in answers:
            if wanted is None or answer.frame in wanted:
                name = f"{video.name(answer.frame)}.png"
                found = segments(answer)
                write_ids(place / video.id / name, found.ids)
                said.append({"file_name": name, "segments_info": _listed(found, ids)})
            yield answer
        about = {"video_id": video.attributes.get("video_id", video.id), "annotations": said}
        write_text(place / f"{video.id}.json", json.dumps(about))

    def read(self, video: Video, folder: Path, faults: SubmissionErrors) -> Iterator[FrameMasks]:
        """The scored frames, with or without the folder ``pan_pred`` around the videos'."""
        place = folder / PREDICTED if (folder / PREDICTED).is_dir() else folder
        said = annotations_of(video, place, faults)
        size, ids = true_size(video), self.category_ids(video)
        for frame in self.scored_frames(video):
            yield segments_of(video, frame, place, said, ids, size, faults)

    def pack(self, folder: Path) -> Path:
        """``<folder>.zip`` with ``pan_pred`` and ``pred.json``, the annotations of all videos."""
        path, place = folder.with_name(f"{folder.name}.zip"), folder / PREDICTED
        said = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(place.glob("*.json"))]
        with whole_file(path) as part, zipfile.ZipFile(part, "w") as archive:
            for file in sorted(place.glob("*/*.png")):
                archive.write(file, file.relative_to(folder))
            archive.writestr("pred.json", json.dumps({"annotations": said}))
        return path


def segments(answer: FrameMasks) -> Segments:
    """An answer as a map of segments, without those that no pixel is left of.

    Raises:
        InputError: targets without category.
    """
    return _segments(answer.masks, answer.targets, dict(zip(answer.targets, categories_of(answer), strict=True)))


def true_segments(video: Video, answer: FrameMasks, crowd: frozenset[int] = frozenset()) -> Segments:
    """Annotation of the answered frame as a map of segments."""
    return _segments(true_masks(video, answer), video.targets, video.categories, crowd)


def _segments(
    masks: Tensor, targets: Sequence[int], categories: dict[int, int], crowd: frozenset[int] = frozenset()
) -> Segments:
    ids = torch.zeros(masks.shape[1:], dtype=torch.int64, device=masks.device)
    for target, mask in zip(targets, masks, strict=True):
        ids[mask] = target
    return Segments(ids, {id: categories[id] for id in ids.unique().tolist() if id}, crowd)


def _listed(found: Segments, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """What a submission says about each segment of a frame; boxes are (x, y, width, height)."""
    listed = []
    for id, category in found.categories.items():
        mask = found.ids == id
        x0, y0, x1, y1 = boxes_from_masks(mask[None])[0].int().tolist()
        about = {"id": id, "category_id": category_ids[category], "iscrowd": 0, "area": int(mask.sum())}
        listed.append({**about, "bbox": [x0, y0, x1 - x0, y1 - y0]})
    return listed


def write_ids(path: Path, ids: Tensor) -> None:
    """Write segments, integer (H, W) below 2^24, as the colours of an RGB PNG: R + 256 G + 65536 B."""
    colours = torch.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], -1).to(torch.uint8)
    with whole_file(path) as part:
        Image.fromarray(np.ascontiguousarray(colours.cpu().numpy())).save(part, "PNG", compress_level=3)
