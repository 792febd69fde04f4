"""VIPSeg: video panoptic segmentation in the wild.

Source: Miao et al., "Large-scale Video Panoptic Segmentation in the Wild: A Benchmark", CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.benchmarks.layouts.per_video import AbsentFrames, read_list
from common.benchmarks.plain import read_json
from common.benchmarks.submissions.rle import load_json
from common.benchmarks.submissions.vps import read_ids
from common.benchmarks.tasks.vps import VPSBenchmark
from common.errors import InputError
from common.video import ImageFolder, Prompt, Video


class VIPSeg(VPSBenchmark):
    """VIPSeg at 720p, as its authors' programs prepare it: 124 names, 66 of them stuff; all annotated frames count.

    Args:
        root: folder that holds ``images``, ``panomasksRGB`` and the JSON of the split.
        split: ``val``, ``train`` or ``test``.
        videos: only these, in this order; default: the whole split.
    """

    name = "vipseg"
    folders = ("vipseg720p", "vipseg")
    source = "https://github.com/VIPSeg-Dataset/VIPSeg-Dataset"
    splits = ("val", "train", "test")
    official_compat = True
    protocol = (
        "VPQ over windows of 1, 2, 4, 6 and 8 frames, and STQ, at the size of the annotations (720p), as the official "
        "programs count: the first segment of a video, if it is a thing, is no tube for AQ"
    )
    layout = """
        panoptic_gt_VIPSeg_val.json                  videos, annotations, categories; likewise train
        images/<video>/<frame>.jpg                   or imgs
        panomasksRGB/<video>/<frame>.png             segment R + 256 G + 65536 B
        test.txt, panoVIPSeg_categories.json         for test, which has no annotations"""

    def __init__(self, root: str | Path | None = None, split: str = "val", videos: Sequence[str] | None = None) -> None:
        super().__init__(root, split, videos)

    @property
    def description(self) -> Path:
        """The JSON of the split."""
        return self.root / f"panoptic_gt_VIPSeg_{self.split}.json"

    @cached_property
    def said(self) -> dict[str, Any] | None:
        """Its content; None where only the list of the videos is here.

        Raises:
            InputError: neither is here, or it lacks a part.
        """
        if not self.description.is_file() and (self.root / f"{self.split}.txt").is_file():
            return None
        said = read_json(self.description, "annotation file")
        for part in ("videos", "annotations", "categories"):
            if not said.get(part):
                raise InputError(f"{self.description}: without {part!r}; make it again with the data set's programs")
        return said

    def listed(self) -> list[str]:
        """The videos of the JSON, or of the list."""
        if self.said is None:
            return read_list(self.root / f"{self.split}.txt")
        return [str(video["video_id"]) for video in self.said["videos"]]

    @cached_property
    def categories(self) -> list[dict[str, Any]]:
        """What is said of each name of the vocabulary, by its number."""
        if self.said is not None:
            return sorted(self.said["categories"], key=lambda category: category["id"])
        path = self.root / "panoVIPSeg_categories.json"
        if not path.is_file():
            raise InputError(f"{path}: no such list of categories; it comes with the data set")
        found = load_json(path)
        if not isinstance(found, list):
            raise InputError(f"{path}: must be a list of categories; unpack it again")
        return sorted(found, key=lambda category: category["id"])

    def category_ids(self, video: Video) -> list[int]:
        """The numbers of the JSON."""
        return [category["id"] for category in self.categories]

    @cached_property
    def annotations(self) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """Of each video, the segments of each frame by the stem of its file."""
        listed = () if self.said is None else self.said["annotations"]
        return {
            str(video["video_id"]): {Path(f["file_name"]).stem: f["segments_info"] for f in video["annotations"]}
            for video in listed
        }

    def open(self, id: str) -> Video:
        """One video.

        Raises:
            InputError: its frames or annotations are missing, or do not fit each other.
        """
        frames, said = self._frames(id), self.annotations.get(id)
        names, places = list(frames.names), {one["id"]: place for place, one in enumerate(self.categories)}
        categories: dict[int, int] = {}
        crowd: set[int] = set()
        for name, segments in (said or {}).items():
            if name not in names:
                raise InputError(f"{self.description}: video {id}: frame {name} is not among the video's frames")
            for segment in segments:
                if segment["category_id"] not in places:
                    raise InputError(f"{self.description}: video {id}: no category {segment['category_id']}")
                categories.setdefault(segment["id"], places[segment["category_id"]])
                if segment.get("iscrowd"):
                    crowd.add(segment["id"])
        vocabulary = tuple(category["name"] for category in self.categories)
        stuff = tuple(category["name"] for category in self.categories if not category["isthing"])
        targets = tuple(sorted(categories))
        annotated = [frame for frame, name in enumerate(names) if said is not None and name in said]
        masks = self.root / "panomasksRGB" / id
        return Video(
            id=id,
            frames=frames,
            fps=5.0,
            prompts=(Prompt(1, vocabulary=vocabulary, stuff=stuff),),
            targets=targets,
            truth=None if said is None else SegmentFolder(masks, names, targets, annotated),
            names=names,
            attributes={"crowd": tuple(sorted(crowd))},
            annotated=None if said is None or len(annotated) == len(names) else annotated,
            vocabulary=vocabulary,
            stuff=stuff,
            categories=categories,
        )

    def _frames(self, id: str) -> ImageFolder | AbsentFrames:
        places = [self.root / "images", self.root / "imgs"]
        place = next((place for place in places if place.is_dir()), places[0])
        if place.is_dir() or id not in self.annotations:
            return ImageFolder(place / id, gaps=True)
        return AbsentFrames(place / id, sorted(self.annotations[id]))


class SegmentFolder:
    """Annotations of one video, an RGB map of segments for each annotated frame: bool (N, H, W), read when asked for.

    Args:
        folder: of the maps.
        names: file stem of each frame.
        targets: the segments, one a row.
        annotated: frames that have a map.
    """

    def __init__(self, folder: Path, names: Sequence[str], targets: Sequence[int], annotated: Sequence[int]) -> None:
        self.folder, self.names, self.targets, self.annotated = folder, names, targets, set(annotated)

    def __getitem__(self, frame: int) -> Tensor | None:
        if frame not in self.annotated:
            return None
        path = self.folder / f"{self.names[frame]}.png"
        ids = read_ids(path)
        masks = ids == torch.tensor(self.targets, dtype=ids.dtype)[:, None, None]
        if masks.any(0).sum() < (ids > 0).sum():
            unknown = sorted(set(ids.unique().tolist()) - {0, *self.targets})
            raise InputError(f"{path}: segment {unknown[0]} is not in the JSON of the split; make both again")
        return masks
