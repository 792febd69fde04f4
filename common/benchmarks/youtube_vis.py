"""YouTube-VIS 2019 and 2021, and OVIS: video instance segmentation.

Sources: Yang et al., "Video Instance Segmentation", ICCV 2019; Qi et al., "Occluded Video Instance Segmentation: A
Benchmark", IJCV 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """A vocabulary is given, its instances are to be found and followed; all released frames count.

    The annotations of ``valid`` and ``test`` are on the server alone. For local numbers ``dev`` is every tenth video of
    ``train``, in the order of its JSON, and ``rest`` are the others, to train on. Videos are named after their folders.

    Args:
        root: folder of the data.
        edition: ``ytvis2019``, ``ytvis2021`` or ``ovis``.
        split: ``valid``, ``train``, ``test``, ``dev`` or ``rest``.
        videos: only these, in this order; default: the whole split.

    Raises:
        InputError: an edition that there is not; later, data that is missing or does not fit.
    """

    splits = ("valid", "train", "test", *DERIVED)
    layout = """
        train.json                              or train/instances.json, instances_train.json, annotations_train.json
        train/JPEGImages/<video>/<frame>.jpg    or train/<video>, Images/train/<video>
        valid.json, valid/, test.json, test/    likewise, without annotations"""

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

    def listed(self) -> list[str]:
        """Names of the videos' folders, in the order of the JSON."""
        return list(self.described)

    @cached_property
    def part(self) -> _Part:
        """The JSON of the split and the frames that belong to it.

        Raises:
            InputError: no JSON of the split.
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
    def described(self) -> dict[str, dict[str, Any]]:
        """What the JSON says of each video of the split.

        Raises:
            InputError: it names none.
        """
        try:
            videos = [(Path(said["file_names"][0]).parent.name, said) for said in self.part.said["videos"]]
            categories = self.part.vocabulary
        except (KeyError, IndexError, TypeError) as error:
            raise InputError(f"{self.part.description}: without {error} of its videos; unpack it again") from error
        if not videos or not categories:
            raise InputError(f"{self.part.description}: it names no videos or categories; unpack it again")
        if self.split in DERIVED:
            dev = self.split == "dev"
            videos = [video for place, video in enumerate(videos) if (place % HELD_OUT == 0) == dev]
        return dict(videos)

    def open(self, id: str) -> Video:
        """One video.

        Raises:
            InputError: its frames or tracks are missing, or do not fit each other.
        """
        video = self.part.opened(self.described[id])
        tracks = self.part.tracks.get(video.attributes["video_id"], [])
        extra = {
            "crowd": tuple(row for row, track in enumerate(tracks, 1) if track.get("iscrowd")),
            **({"areas": _mean_areas(tracks)} if all(track.get("areas") for track in tracks) else {}),
        }
        return replace(
            video,
            fps=6.0,
            prompts=(Prompt(1, vocabulary=video.vocabulary),),
            truth=video.truth if self.part.said.get("annotations") is not None else None,
            attributes={**video.attributes, **extra},
        )

    def category_ids(self, video: Video) -> list[int]:
        """The numbers of the JSON."""
        return list(self.part.places)


class _Part(VISVideos):
    """One JSON and its frames, crowds included."""

    folders = ()
    source = "where the frames are from"

    def __init__(self, root: Path, split: str, description: Path) -> None:
        super().__init__(root, split)
        self._description = description

    @property
    def description(self) -> Path:
        return self._description

    @property
    def frames_folder(self) -> Path:
        places = [self.root / self.split / "JPEGImages", self.root / "Images" / self.split, self.root / self.split]
        return next((place for place in places if place.is_dir()), places[0])

    @cached_property
    def tracks(self) -> dict[int, list[dict[str, Any]]]:
        found: dict[int, list[dict[str, Any]]] = {}
        for track in self.said.get("annotations") or ():
            found.setdefault(track["video_id"], []).append(track)
        return found


def _mean_areas(tracks: Sequence[dict[str, Any]]) -> dict[int, float]:
    """Mean of what the annotation says of each target's area, over the frames that show it."""
    shown = {row: [area for area in track["areas"] if area] for row, track in enumerate(tracks, 1)}
    return {row: sum(areas) / len(areas) if areas else 0.0 for row, areas in shown.items()}
