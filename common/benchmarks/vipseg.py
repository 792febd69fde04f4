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
from common.benchmarks.submissions.rle import load_json
from common.benchmarks.submissions.vps import read_segment_ids
from common.benchmarks.tasks.vps import VPSBenchmark
from common.errors import InputError
from common.files import read_json
from common.video import ImageFolder, Prompt, Video
from common.video.masks import unique_ids


class VIPSeg(VPSBenchmark):
    """VIPSeg at 720p, prepared with the authors' programs: 124 classes, 66 of them stuff; all annotated frames count.

    Args:
        root: folder with ``images``, ``panomasksRGB`` and the JSON file of the split.
        split: ``val``, ``train`` or ``test``.
        videos: names of the videos to use, in this order; default: all videos of the split.
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
        panoptic_gt_VIPSeg_val.json                  videos, annotations, categories; the same for train
        images/<video>/<frame>.jpg                   or imgs
        panomasksRGB/<video>/<frame>.png             segment R + 256 G + 65536 B
        test.txt, panoVIPSeg_categories.json         for test, which has no annotations"""

    def __init__(self, root: str | Path | None = None, split: str = "val", videos: Sequence[str] | None = None) -> None:
        super().__init__(root, split, videos)

    @property
    def annotation_file(self) -> Path:
        """JSON file of the split."""
        return self.root / f"panoptic_gt_VIPSeg_{self.split}.json"

    @cached_property
    def content(self) -> dict[str, Any] | None:
        """Content of the JSON file; None if only the list of videos is available.

        Raises:
            InputError: both are missing, or the file lacks a part.
        """
        if not self.annotation_file.is_file() and (self.root / f"{self.split}.txt").is_file():
            return None
        content = read_json(self.annotation_file, "annotation file")
        for part in ("videos", "annotations", "categories"):
            if not content.get(part):
                raise InputError(
                    f"{self.annotation_file}: without {part!r}; make it again with the data set's programs"
                )
        return content

    def list_videos(self) -> list[str]:
        """Return the videos of the JSON file or of the list."""
        if self.content is None:
            return read_list(self.root / f"{self.split}.txt")
        return [str(video["video_id"]) for video in self.content["videos"]]

    @cached_property
    def categories(self) -> list[dict[str, Any]]:
        """Entry of each class, by ascending id."""
        if self.content is not None:
            return sorted(self.content["categories"], key=lambda category: category["id"])
        path = self.root / "panoVIPSeg_categories.json"
        if not path.is_file():
            raise InputError(f"{path}: no such list of categories; it comes with the data set")
        categories = load_json(path)
        if not isinstance(categories, list):
            raise InputError(f"{path}: must be a list of categories; unpack it again")
        return sorted(categories, key=lambda category: category["id"])

    def category_ids(self, video: Video) -> list[int]:
        """Return the category ids of the JSON file."""
        return [category["id"] for category in self.categories]

    @cached_property
    def segments_info(self) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """Segments of each frame, by video and stem of the frame's file."""
        annotations = () if self.content is None else self.content["annotations"]
        return {
            str(video["video_id"]): {Path(f["file_name"]).stem: f["segments_info"] for f in video["annotations"]}
            for video in annotations
        }

    def open(self, id: str) -> Video:
        """Open a video.

        Args:
            id: name of the video.

        Raises:
            InputError: frames or annotations are missing or inconsistent.
        """
        frames, segments_info = self._frames(id), self.segments_info.get(id)
        names, index = list(frames.names), {entry["id"]: index for index, entry in enumerate(self.categories)}
        categories: dict[int, int] = {}
        crowd: set[int] = set()
        for name, segments in (segments_info or {}).items():
            if name not in names:
                raise InputError(f"{self.annotation_file}: video {id}: frame {name} is not among the video's frames")
            for segment in segments:
                if segment["category_id"] not in index:
                    raise InputError(f"{self.annotation_file}: video {id}: no category {segment['category_id']}")
                categories.setdefault(segment["id"], index[segment["category_id"]])
                if segment.get("iscrowd"):
                    crowd.add(segment["id"])
        vocabulary = tuple(category["name"] for category in self.categories)
        stuff = tuple(category["name"] for category in self.categories if not category["isthing"])
        targets = tuple(sorted(categories))
        annotated = [frame for frame, name in enumerate(names) if name in (segments_info or {})]
        masks = self.root / "panomasksRGB" / id
        return Video(
            id=id,
            frames=frames,
            fps=5.0,
            prompts=(Prompt(1, vocabulary=vocabulary, stuff=stuff),),
            targets=targets,
            truth=None if segments_info is None else SegmentFolder(masks, names, targets, annotated),
            names=names,
            attributes={"crowd": tuple(sorted(crowd))},
            annotated=None if segments_info is None or len(annotated) == len(names) else annotated,
            vocabulary=vocabulary,
            stuff=stuff,
            categories=categories,
        )

    def _frames(self, id: str) -> ImageFolder | AbsentFrames:
        folders = [self.root / "images", self.root / "imgs"]
        folder = next((folder for folder in folders if folder.is_dir()), folders[0])
        if folder.is_dir() or id not in self.segments_info:
            return ImageFolder(folder / id, gaps=True)
        return AbsentFrames(folder / id, sorted(self.segments_info[id]))


class SegmentFolder:
    """Annotations of one video, one RGB segment map per annotated frame, read on access as masks bool (N, H, W).

    Args:
        folder: folder of the segment maps.
        names: file stem of each frame.
        targets: ids of the N segments.
        annotated: indices of the frames that have a map.
    """

    def __init__(self, folder: Path, names: Sequence[str], targets: Sequence[int], annotated: Sequence[int]) -> None:
        self.folder, self.names, self.targets, self.annotated = folder, names, targets, set(annotated)

    def __getitem__(self, frame: int) -> Tensor | None:
        if frame not in self.annotated:
            return None
        path = self.folder / f"{self.names[frame]}.png"
        ids = read_segment_ids(path)
        masks = ids == torch.tensor(self.targets, dtype=ids.dtype)[:, None, None]
        if masks.any(0).sum() < (ids > 0).sum():
            unknown = sorted(set(unique_ids(ids)) - set(self.targets))
            raise InputError(f"{path}: segment {unknown[0]} is not in the JSON of the split; make both again")
        return masks
