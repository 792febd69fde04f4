"""YouTube-VIS 2019 and 2021, and OVIS: video instance segmentation.

Sources: Yang et al., "Video Instance Segmentation", ICCV 2019; Qi et al., "Occluded Video Instance Segmentation: A
Benchmark", IJCV 2022.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from common.benchmarks.layouts.per_split import OTHER_NAME
from common.benchmarks.layouts.vis_json import VISVideos
from common.benchmarks.tasks.vis import VISBenchmark
from common.errors import InputError
from common.video import Prompt, Video

HELD_OUT = 10  # every tenth video of train is in dev
DERIVED = ("dev", "rest")


class YouTubeVIS(VISBenchmark):
    """YouTube-VIS and OVIS: detect, segment and track the instances of a vocabulary; all released frames are scored.

    The annotations of ``valid`` and ``test`` are hidden. For local numbers, ``dev`` is every tenth video of ``train``
    in the order of its JSON file, and ``rest`` are the others, for training. Videos are named after their folders.

    Args:
        root: folder of the data.
        edition: ``ytvis2019``, ``ytvis2021`` or ``ovis``.
        split: ``valid``, ``train``, ``test``, ``dev`` or ``rest``.
        videos: names of the videos to use, in this order; default: all videos of the split.

    Raises:
        InputError: the edition does not exist; on access, the data is missing or inconsistent.
    """

    splits = ("valid", "train", "test", *DERIVED)
    layout = """
        train.json                              or train/instances.json, instances_train.json, annotations_train.json
        train/JPEGImages/<video>/<frame>.jpg    or train/<video>, Images/train/<video>
        valid.json, valid/, test.json, test/    the same without annotations"""

    def __init__(
        self,
        root: str | Path | None = None,
        edition: str = "ytvis2021",
        split: str = "valid",
        videos: Sequence[str] | None = None,
    ) -> None:
        super().__init__(root, split, videos)
        if edition not in ("ytvis2019", "ytvis2021", "ovis"):
            raise InputError(f"edition {edition}: there are ytvis2019, ytvis2021 and ovis")
        self.name = edition
        year = edition.removeprefix("ytvis")
        self.folders = ("ovis",) if edition == "ovis" else (edition, f"youtubevis{year}", f"ytbvis{year}")
        self.source = "https://songbai.site/ovis" if edition == "ovis" else "https://youtube-vos.org/dataset/vis"
        self.protocol = (
            "AP of tracks over IoU 0.50 to 0.95, mean over categories, all released frames; on train, dev (every tenth "
            "video of it) or rest: local, not the server's number"
        )

    def list_videos(self) -> list[str]:
        """Return the names of the video folders, in the order of the JSON file."""
        return list(self.video_entries)

    @cached_property
    def part(self) -> _Part:
        """Reader of the JSON file and the frames of the split.

        Raises:
            InputError: the JSON file is missing.
        """
        split = "train" if self.split in DERIVED else self.split
        names = [name for name in (split, OTHER_NAME.get(split)) if name]
        for name in names:
            files = (f"{name}.json", f"{name}/instances.json", f"instances_{name}.json", f"annotations_{name}.json")
            for path in (self.root / file for file in files):
                if path.is_file():
                    return _Part(self.root, name, path)
        raise InputError(f"{self.root / split}.json: no such file, nor {split}/instances.json; check root and split")

    @cached_property
    def video_entries(self) -> dict[str, dict[str, Any]]:
        """Entry of each video of the split in the JSON file.

        Raises:
            InputError: there are none.
        """
        try:
            entries = self.part.annotations["videos"]
            videos = [(Path(entry["file_names"][0]).parent.name, entry) for entry in entries]
            categories = self.part.vocabulary
        except (KeyError, IndexError, TypeError) as error:
            raise InputError(f"{self.part.annotation_file}: without {error} of its videos; unpack it again") from error
        if not videos or not categories:
            raise InputError(f"{self.part.annotation_file}: it names no videos or categories; unpack it again")
        if self.split in DERIVED:
            dev = self.split == "dev"
            videos = [video for index, video in enumerate(videos) if (index % HELD_OUT == 0) == dev]
        return dict(videos)

    def open(self, id: str) -> Video:
        """Open a video.

        Args:
            id: name of the video.

        Raises:
            InputError: frames or tracks are missing or inconsistent.
        """
        video = self.part.make_video(self.video_entries[id])
        tracks = self.part.tracks.get(video.attributes["video_id"], [])
        extra = {
            "crowd": tuple(row for row, track in enumerate(tracks, 1) if track.get("iscrowd")),
            **({"areas": _mean_areas(tracks)} if all(track.get("areas") for track in tracks) else {}),
        }
        return replace(
            video,
            fps=6.0,
            prompts=(Prompt(1, vocabulary=video.vocabulary),),
            truth=video.truth if self.part.annotations.get("annotations") is not None else None,
            attributes={**video.attributes, **extra},
        )

    @property
    def video_ids(self) -> Collection[int]:
        """The ids of all videos of the JSON file."""
        return {entry["id"] for entry in self.part.annotations["videos"]}

    def category_ids(self, video: Video) -> list[int]:
        """Return the category ids of the JSON file."""
        return list(self.part.category_index)


class _Part(VISVideos):
    """One JSON file and its frames, including crowd annotations."""

    folders = ()
    source = "where the frames are from"

    def __init__(self, root: Path, split: str, annotation_file: Path) -> None:
        super().__init__(root, split)
        self._description = annotation_file

    @property
    def annotation_file(self) -> Path:
        return self._description

    @property
    def frames_folder(self) -> Path:
        folders = [self.root / self.split / "JPEGImages", self.root / "Images" / self.split, self.root / self.split]
        return next((folder for folder in folders if folder.is_dir()), folders[0])

    @cached_property
    def tracks(self) -> dict[int, list[dict[str, Any]]]:
        tracks: dict[int, list[dict[str, Any]]] = {}
        for track in self.annotations.get("annotations") or ():
            tracks.setdefault(track["video_id"], []).append(track)
        return tracks


def _mean_areas(tracks: Sequence[dict[str, Any]]) -> dict[int, float]:
    """Return the mean annotated area of each target, over the frames that contain it."""
    areas_of = {row: [area for area in track["areas"] if area] for row, track in enumerate(tracks, 1)}
    return {row: sum(areas) / len(areas) if areas else 0.0 for row, areas in areas_of.items()}
