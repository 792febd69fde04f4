"""Annotations in the format of YouTube-VIS, and OVIS as a training set.

Source: Qi et al., "Occluded Video Instance Segmentation: A Benchmark", IJCV 2022. Data: https://songbai.site/ovis
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any

from common.benchmarks.layouts.per_video import AbsentFrames
from common.benchmarks.layouts.rle_tracks import RLETracks, TrackVideos
from common.errors import InputError
from common.video import Video
from common.video.masks import RLE
from common.video.readers import ImageFolder


class VISVideos(TrackVideos):
    """Videos annotated in the JSON format of YouTube-VIS.

    The JSON has ``videos``, ``annotations`` (one per target, with an RLE or null per frame) and ``categories``. Targets
    are numbered from 1 within their video. The video's ``attributes`` hold its id in the file, ``video_id``, and those
    of its targets, ``annotations``. Crowd annotations are skipped.
    """

    @property
    @abstractmethod
    def frames_folder(self) -> Path:
        """Folder to which the file names in the JSON are relative."""

    @cached_property
    def videos(self) -> list[dict[str, Any]]:
        """Entries of the videos that have a track.

        Raises:
            InputError: the file lacks one of its three parts.
        """
        if not all(self.annotations.get(key) for key in ("videos", "annotations", "categories")):
            raise InputError(
                f"{self.annotation_file}: without 'videos', 'annotations' or 'categories'; a split with hidden "
                "annotations cannot be trained on"
            )
        return [video for video in self.annotations["videos"] if self.tracks.get(video["id"])]

    @cached_property
    def tracks(self) -> dict[int, list[dict[str, Any]]]:
        """Tracks of each video, by video id."""
        tracks: dict[int, list[dict[str, Any]]] = {}
        for track in self.annotations["annotations"]:
            if not track.get("iscrowd"):
                tracks.setdefault(track["video_id"], []).append(track)
        return tracks

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> Video:
        return self.make_video(self.videos[index])

    def make_video(self, entry: dict[str, Any]) -> Video:
        """Create a video from its entry in the JSON; without frames if those of the data set are missing altogether.

        Args:
            entry: element of ``videos``.

        Raises:
            InputError: the frames or tracks do not match the entry.
        """
        files, tracks = [Path(name) for name in entry["file_names"]], self.tracks.get(entry["id"], [])
        id, where = files[0].parent.name, f"{self.annotation_file}, video {files[0].parent.name}"
        names = [file.stem for file in files]
        folder = self.frames_folder / files[0].parent
        frames = ImageFolder(folder, gaps=True) if folder.parent.is_dir() else AbsentFrames(folder, names)
        if isinstance(frames, ImageFolder) and names != frames.names:
            different = sorted(set(names) ^ set(frames.names))
            which = f"such as {different[0]}" if different else "which are in another order"
            raise InputError(
                f"{frames.path}: not the frames of {self.annotation_file.name}, {which}; unpack them again"
            )
        rles: dict[int, dict[int, RLE]] = {frame: {} for frame in range(len(names))}
        for row, track in enumerate(tracks):
            if len(track["segmentations"]) != len(names):
                count = len(track["segmentations"])
                raise InputError(f"{where}: {count} segmentations of track {track['id']} for {len(names)} frames")
            for frame, rle in enumerate(track["segmentations"]):
                if rle:
                    rles[frame][row] = rle
        return Video(
            id=id,
            frames=frames,
            targets=tuple(range(1, len(tracks) + 1)),
            truth=RLETracks(rles, len(tracks), (entry["height"], entry["width"]), where),
            names=names,
            attributes={
                "video_id": entry["id"],
                "annotations": {row: track["id"] for row, track in enumerate(tracks, 1)},
            },
            vocabulary=self.vocabulary,
            categories={row: self.category_index[track["category_id"]] for row, track in enumerate(tracks, 1)},
        )


class OVIS(VISVideos):
    """OVIS: 607 training videos of 25 categories with heavy occlusion.

    Args:
        root: folder with ``annotations_train.json`` and the frames, in ``train`` or ``Images/train``.
        split: ``train``, the only split with public annotations.
    """

    folders = ("ovis",)
    source = "https://songbai.site/ovis"

    @property
    def annotation_file(self) -> Path:
        """JSON file of the split."""
        return self.root / f"annotations_{self.split}.json"

    @property
    def frames_folder(self) -> Path:
        """Folder with one folder of frames per video."""
        nested = self.root / "Images" / self.split
        return nested if nested.is_dir() else self.root / self.split
