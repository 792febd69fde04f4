"""BURST, exemplar-guided: tracks whose mask is given where they first appear, scored by HOTA.

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
from common.benchmarks.plain import read_json
from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.masks import json_of, unknown
from common.benchmarks.submissions.rle import decoded, load_json
from common.benchmarks.tasks.vos import answered, true_masks
from common.errors import InputError
from common.files import write_text
from common.metrics.hota import BURSTFrames, HOTAMetrics
from common.video import FrameMasks, Prompt, Video
from common.video.masks import rle_encode

GROUPS = ("common", "uncommon")


class BURSTGuided(Benchmark):
    """Masks are given where tracks first appear; annotated frames (1 a second) count, these included.

    A video is named ``<part>--<sequence>``. A submission is one JSON in the form of the annotations; a run writes one
    of one sequence for each video, ``pack`` joins them.

    Args:
        root: folder that holds ``annotations`` and ``frames``.
        split: ``val``, ``test`` or ``train``.
        videos: only these, in this order; default: the whole split.
    """

    name = "burst"
    task = "VOS"
    numbers = ("HOTA", "HOTA_common", "HOTA_uncommon", "DetA", "AssA", "AP")
    folders = BURST.folders
    source = BURST.source
    splits = ("val", "test", "train")
    protocol = "exemplar-guided: HOTA by mask IoU over 0.05 to 0.95, mean over classes; track AP; all annotated frames"
    layout = """
        annotations/val/all_classes.json                  likewise test; annotations/train/train.json
        annotations/info/class_split.json                 {"common": [class, ...], "uncommon": [class, ...]}
        frames/val/<part>/<sequence>/<frame>.jpg"""

    def __init__(self, root: str | Path | None = None, split: str = "val", videos: Sequence[str] | None = None) -> None:
        super().__init__(root, split, videos)

    @cached_property
    def data(self) -> BURST:
        """The annotated videos."""
        return BURST(self.root, self.split)

    @cached_property
    def places(self) -> dict[str, int]:
        """Place of each video among the annotated ones."""
        return {_name(said): place for place, said in enumerate(self.data.sequences)}

    def listed(self) -> list[str]:
        """Names of the videos that have a track."""
        return list(self.places)

    def open(self, id: str) -> Video:
        """One video.

        Raises:
            InputError: its frames are missing, or a mask is damaged.
        """
        video = self.data[self.places[id]]
        assert isinstance(video.truth, RLETracks)
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
        """Fresh measures, over all, common and uncommon classes; the latter NaN where the list of them is missing."""
        path = self.root / "annotations" / "info" / "class_split.json"
        said = read_json(path, "split of the classes") if path.is_file() else {}
        numbers = self.data.places
        groups = {f"_{name}": {numbers[n] for n in said.get(name, ()) if n in numbers} for name in GROUPS}
        return HOTAMetrics({"": None, **groups})

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Counts of classes and tracks; the arguments of ``HOTAMetrics.extend``. See ``Benchmark.measure``."""
        frames = BURSTFrames(federated=False)
        kinds = [video.categories[target] for target in video.targets]
        for answer in answered(video, self.scored_frames(video), answers):
            known = tuple(target for target in answer.targets if target in video.targets)
            scores = [float(answer.scores[answer.targets.index(target)]) for target in known]
            said = [video.categories[target] for target in known]
            frames.add(answer.select(known), true_masks(video, answer), known, video.targets, scores, said, kinds)
        return frames.result(self.ids.index(video.id))

    def columns(self, video: Video, measured: dict[str, Tensor]) -> list[str]:
        """None: HOTA is of a class."""
        return []

    # Submissions.

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """``<video>.json`` with the sequence; a track without a mask in a frame is left out of it."""
        wanted, said = set(self.scored_frames(video)), []
        for answer in answers:
            if answer.frame in wanted:
                shown = [row for row in range(len(answer.targets)) if answer.masks[row].any()]
                rles = rle_encode(answer.masks[shown]) if shown else []
                frame = {
                    str(answer.targets[row]): {"rle": rle["counts"], "score": float(answer.scores[row])}
                    for row, rle in zip(shown, rles, strict=True)
                }
                said.append(frame)
            yield answer
        numbers = {place: number for number, place in self.data.places.items()}
        sequence = {
            **self.data.sequences[self.places[video.id]],
            "track_category_ids": {str(target): numbers[video.categories[target]] for target in video.targets},
            "segmentations": said,
        }
        write_text(folder / f"{video.id}.json", json.dumps(self._file([sequence])))

    def _file(self, sequences: list[dict[str, Any]]) -> dict[str, Any]:
        return {"split": self.split, "sequences": sequences, "categories": self.data.said["categories"]}

    def read(self, video: Video, folder: Path, faults: SubmissionErrors) -> Iterator[FrameMasks]:
        """The annotated frames, from ``<video>.json`` or the one JSON of the submission."""
        frames, path = list(self.scored_frames(video)), json_of(video.id, folder)
        said: list[dict[str, dict[str, Any]]] = [{}] * len(frames)
        try:
            if path is None:
                raise InputError(f"{folder / video.id}.json: no such file, and no one JSON for all videos")
            data = load_json(path)
            sequences = data.get("sequences", []) if isinstance(data, dict) else []
            found = next((one for one in sequences if _name(one) == video.id), None)
            if found is None or len(found.get("segmentations", ())) != len(frames):
                raise InputError(f"{path}: video {video.id} is missing, or has not {len(frames)} annotated frames")
            said = found["segmentations"]
        except InputError as error:
            faults.report(str(error))
        for frame, tracks in zip(frames, said, strict=True):
            yield self._answer(video, frame, tracks, f"{path}: video {video.id}, frame {video.name(frame)}", faults)

    def _answer(
        self, video: Video, frame: int, tracks: dict[str, Any], where: str, faults: SubmissionErrors
    ) -> FrameMasks:
        assert isinstance(video.truth, RLETracks)
        size, found = video.truth.size, dict[int, tuple[Tensor, float]]()
        for key, one in tracks.items():
            if not key.isdecimal() or int(key) not in video.targets:
                faults.report(unknown(where, [key], video))
                continue
            mask = decoded(f"{where}, track {key}", {"size": list(size), "counts": one.get("rle")}, size, faults)
            if mask is not None:
                found[int(key)] = mask, float(one.get("score", 1.0))
        targets = tuple(sorted(found))
        masks = torch.stack([found[target][0] for target in targets]) if targets else torch.zeros(0, *size) > 0
        return FrameMasks(frame, targets, masks, torch.tensor([found[t][1] for t in targets], dtype=torch.float64))

    def pack(self, folder: Path) -> Path:
        """``<folder>.json`` with the sequences of all videos."""
        path = folder.with_name(f"{folder.name}.json")
        files = sorted(folder.glob("*.json"))
        sequences = [one for file in files for one in json.loads(file.read_text(encoding="utf-8"))["sequences"]]
        write_text(path, json.dumps(self._file(sequences)))
        return path


def _name(said: dict[str, Any]) -> str:
    """``<part>--<sequence>``, which is also the name of a file."""
    return f"{said.get('dataset')}--{said.get('seq_name')}"
