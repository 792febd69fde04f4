"""BURST, exemplar-guided task: the first mask of each track is given; scored by HOTA.

Source: Athar et al., "BURST: A Benchmark for Unifying Object Recognition, Segmentation and Tracking in Video", WACV
2023.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.benchmarks.base import Benchmark
from common.benchmarks.layouts.burst import BURST
from common.benchmarks.layouts.rle_tracks import RLETracks
from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.masks import find_json, unknown_id_message
from common.benchmarks.submissions.rle import decode_mask, load_json
from common.benchmarks.tasks.vos import select_answers, true_masks
from common.errors import InputError
from common.files import read_json, write_text
from common.metrics.hota import BURSTFrames, HOTAMetrics
from common.video import FrameMasks, Prompt, Video
from common.video.masks import rle_encode

GROUPS = ("common", "uncommon")


class BURSTGuided(Benchmark):
    """BURST, exemplar-guided: the first mask of each track is the prompt; all annotated frames (1 fps) are scored.

    A video is named ``<part>--<sequence>``. A submission is one JSON file in the format of the annotations. A run
    writes one such file per video; ``pack`` joins them.

    Args:
        root: folder with ``annotations`` and ``frames``.
        split: ``val``, ``test`` or ``train``.
        videos: names of the videos to use, in this order; default: all videos of the split.
    """

    name = "burst"
    task = "VOS"
    numbers = ("HOTA", "HOTA_common", "HOTA_uncommon", "DetA", "AssA", "AP")
    folders = BURST.folders
    source = BURST.source
    splits = ("val", "test", "train")
    protocol = "exemplar-guided: HOTA by mask IoU over 0.05 to 0.95, mean over classes; track AP; all annotated frames"
    layout = """
        annotations/val/all_classes.json                  the same for test; annotations/train/train.json
        annotations/info/class_split.json                 {"common": [class, ...], "uncommon": [class, ...]}
        frames/val/<part>/<sequence>/<frame>.jpg"""

    def __init__(self, root: str | Path | None = None, split: str = "val", videos: Sequence[str] | None = None) -> None:
        super().__init__(root, split, videos)

    @cached_property
    def data(self) -> BURST:
        """Reader of the annotated videos."""
        return BURST(self.root, self.split)

    @cached_property
    def video_index(self) -> dict[str, int]:
        """Index of each video in ``data``."""
        return {_name(sequence): index for index, sequence in enumerate(self.data.sequences)}

    def list_videos(self) -> list[str]:
        """Return the names of the videos that have at least one track."""
        return list(self.video_index)

    def open(self, id: str) -> Video:
        """Open a video.

        Args:
            id: name of the video.

        Raises:
            InputError: the frames are missing, or a mask is damaged.
        """
        video = self.data[self.video_index[id]]
        assert isinstance(video.truth, RLETracks)
        # Later entries overwrite earlier ones, so going backwards leaves each track's first frame.
        starts = {row: frame for frame in sorted(video.truth.frames, reverse=True) for row in video.truth.frames[frame]}
        masks = {frame: video.truth[frame] for frame in set(starts.values())}
        rows = [row for row in range(len(video.targets)) if row in starts]
        return replace(
            video,
            id=id,
            prompts=tuple(
                Prompt(video.targets[row], starts[row], mask=masks[starts[row]][row])  # type: ignore[index]
                for row in rows
            ),
        )

    def metric(self) -> HOTAMetrics:
        """Create the metric over all, common and uncommon classes; the latter two are NaN without the class list."""
        path = self.root / "annotations" / "info" / "class_split.json"
        class_split = read_json(path, "split of the classes") if path.is_file() else {}
        index = self.data.category_index
        groups = {f"_{name}": {index[n] for n in class_split.get(name, ()) if n in index} for name in GROUPS}
        return HOTAMetrics({"": None, **groups})

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Count detections and associations, the arguments of ``HOTAMetrics.extend``. See ``Benchmark.measure``."""
        frames = BURSTFrames(federated=False)
        true_categories = [video.categories[target] for target in video.targets]
        for answer in select_answers(video, self.scored_frames(video), answers):
            tracks = tuple(target for target in answer.targets if target in video.targets)
            scores = [float(answer.scores[answer.targets.index(target)]) for target in tracks]
            categories = [video.categories[target] for target in tracks]
            masks, truth = answer.select(tracks), true_masks(video, answer)
            frames.add(masks, truth, tracks, video.targets, scores, categories, true_categories)
        return frames.result(self.ids.index(video.id))

    def column_names(self, video: Video, measured: dict[str, Tensor]) -> list[str]:
        """Return no columns: HOTA is defined per class, not per object."""
        return []

    # Submissions.

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """Write ``<video>.json`` with one sequence; empty masks are omitted. See ``Benchmark.write``."""
        scored, segmentations = set(self.scored_frames(video)), []
        for answer in answers:
            if answer.frame in scored:
                rows = [row for row in range(len(answer.targets)) if answer.masks[row].any()]
                rles = rle_encode(answer.masks[rows]) if rows else []
                frame = {
                    str(answer.targets[row]): {"rle": rle["counts"], "score": float(answer.scores[row])}
                    for row, rle in zip(rows, rles, strict=True)
                }
                segmentations.append(frame)
            yield answer
        category_ids = {index: number for number, index in self.data.category_index.items()}
        sequence = {
            **self.data.sequences[self.video_index[video.id]],
            "track_category_ids": {str(target): category_ids[video.categories[target]] for target in video.targets},
            "segmentations": segmentations,
        }
        write_text(folder / f"{video.id}.json", json.dumps(self._file([sequence])))

    def _file(self, sequences: list[dict[str, Any]]) -> dict[str, Any]:
        return {"split": self.split, "sequences": sequences, "categories": self.data.annotations["categories"]}

    def read(self, video: Video, folder: Path, errors: SubmissionErrors) -> Iterator[FrameMasks]:
        """Read the annotated frames from ``<video>.json`` or the single JSON file. See ``Benchmark.read``."""
        frames, path = list(self.scored_frames(video)), find_json(video.id, folder)
        segmentations: list[dict[str, dict[str, Any]]] = [{}] * len(frames)
        try:
            if path is None:
                raise InputError(f"{folder / video.id}.json: no such file, and no one JSON for all videos")
            data = load_json(path)
            sequences = data.get("sequences", []) if isinstance(data, dict) else []
            sequence = next((sequence for sequence in sequences if _name(sequence) == video.id), None)
            if sequence is None or len(sequence.get("segmentations", ())) != len(frames):
                raise InputError(f"{path}: video {video.id} is missing, or has not {len(frames)} annotated frames")
            segmentations = sequence["segmentations"]
        except InputError as error:
            errors.add(str(error))
        for frame, tracks in zip(frames, segmentations, strict=True):
            yield self._answer(video, frame, tracks, f"{path}: video {video.id}, frame {video.name(frame)}", errors)

    def _answer(
        self, video: Video, frame: int, tracks: dict[str, Any], where: str, errors: SubmissionErrors
    ) -> FrameMasks:
        assert isinstance(video.truth, RLETracks)
        size, predictions = video.truth.size, dict[int, tuple[Tensor, float]]()
        for key, track in tracks.items():
            if not key.isdecimal() or int(key) not in video.targets:
                errors.add(unknown_id_message(where, [key], video))
                continue
            mask = decode_mask(f"{where}, track {key}", {"size": list(size), "counts": track.get("rle")}, size, errors)
            if mask is not None:
                predictions[int(key)] = mask, float(track.get("score", 1.0))
        targets = tuple(sorted(predictions))
        masks = torch.stack([predictions[target][0] for target in targets]) if targets else torch.zeros(0, *size) > 0
        scores = torch.tensor([predictions[target][1] for target in targets], dtype=torch.float64)
        return FrameMasks(frame, targets, masks, scores)

    def pack(self, folder: Path) -> Path:
        """Join the files of all videos into ``<folder>.json``. See ``Benchmark.pack``."""
        path = folder.with_name(f"{folder.name}.json")
        files = sorted(folder.glob("*.json"))
        contents = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        sequences = [sequence for content in contents for sequence in content["sequences"]]
        write_text(path, json.dumps(self._file(sequences)))
        return path


def _name(sequence: dict[str, Any]) -> str:
    """Return ``<part>--<sequence>``, which is a valid file name."""
    return f"{sequence.get('dataset')}--{sequence.get('seq_name')}"
