"""Annotations in the form of YouTube-VIS, and OVIS, which has it, as a set to train on.

Source: Qi et al., "Occluded Video Instance Segmentation: A Benchmark", IJCV 2022. Data: https://songbai.site/ovis
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from common.benchmarks.layouts.per_video import AbsentFrames
from common.benchmarks.layouts.rle_tracks import RLETracks, TrackVideos
from common.errors import InputError
from common.video import Video
from common.video.readers import ImageFolder


class VISVideos(TrackVideos):
    """Videos of a JSON with ``videos``, ``annotations`` (one a target, a segmentation or null a frame), ``categories``.

    Targets are numbered from 1 within their video; ``attributes`` have the file's numbers of the video,
    ``video_id``, and of each target, ``annotations``. Crowds are left out.
    """

    @property
    def frames_folder(self) -> Path:
        """Folder below which the files that the JSON names lie."""
        raise NotImplementedError

    @cached_property
    def videos(self) -> list[dict[str, Any]]:
        """What the file says of each video that has a track.

        Raises:
            InputError: it lacks a part.
        """
        if not all(self.said.get(key) for key in ("videos", "annotations", "categories")):
            raise InputError(
                f"{self.description}: without 'videos', 'annotations' or 'categories'; a split with hidden annotations "
                "cannot be trained on"
            )
        return [video for video in self.said["videos"] if self.tracks.get(video["id"])]

    @cached_property
    def tracks(self) -> dict[int, list[dict[str, Any]]]:
        """The annotations of each video, by its number."""
        found: dict[int, list[dict[str, Any]]] = {}
        for track in self.said["annotations"]:
            if not track.get("iscrowd"):
                found.setdefault(track["video_id"], []).append(track)
        return found

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> Video:
        return self.opened(self.videos[index])

    def opened(self, said: dict[str, Any]) -> Video:
        """A video, given what the file says of it; with its frames, unless no video's are here.

        Raises:
            InputError: its frames or tracks are not those of the file.
        """
        files, tracks = [Path(name) for name in said["file_names"]], self.tracks.get(said["id"], [])
        id, where = files[0].parent.name, f"{self.description}, video {files[0].parent.name}"
        names = [file.stem for file in files]
        folder = self.frames_folder / files[0].parent
        frames = ImageFolder(folder, gaps=True) if folder.parent.is_dir() else AbsentFrames(folder, names)
        if isinstance(frames, ImageFolder) and names != frames.names:
            odd = sorted(set(names) ^ set(frames.names))
            which = f"such as {odd[0]}" if odd else "which are in another order"
            raise InputError(f"{frames.path}: not the frames of {self.description.name}, {which}; unpack them again")
        shown: dict[int, dict[int, dict]] = {frame: {} for frame in range(len(names))}
        for row, track in enumerate(tracks):
            if len(track["segmentations"]) != len(names):
                count = len(track["segmentations"])
                raise InputError(f"{where}: {count} segmentations of track {track['id']} for {len(names)} frames")
            for frame, rle in enumerate(track["segmentations"]):
                if rle:
                    shown[frame][row] = rle
        return Video(
            id=id,
            frames=frames,
            targets=tuple(range(1, len(tracks) + 1)),
            truth=RLETracks(shown, len(tracks), (said["height"], said["width"]), where),
            names=names,
            attributes={
                "video_id": said["id"],
                "annotations": {row: track["id"] for row, track in enumerate(tracks, 1)},
            },
            vocabulary=self.vocabulary,
            categories={row: self.places[track["category_id"]] for row, track in enumerate(tracks, 1)},
        )


class OVIS(VISVideos):
    """OVIS: 607 training videos of 25 categories with many occlusions.

    Args:
        root: folder that holds ``annotations_train.json`` and the frames, in ``train`` or ``Images/train``.
        split: ``train``, the one whose annotations are public.
    """

    folders = ("ovis",)
    source = "https://songbai.site/ovis"

    @property
    def description(self) -> Path:
        """The JSON of the split."""
        return self.root / f"annotations_{self.split}.json"

    @property
    def frames_folder(self) -> Path:
        """Folder of the videos' folders."""
        inside = self.root / "Images" / self.split
        return inside if inside.is_dir() else self.root / self.split
