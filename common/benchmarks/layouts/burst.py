"""BURST as a set to train on.

Source: Athar et al., "BURST: A Benchmark for Unifying Object Recognition, Segmentation and Tracking in Video", WACV
2023.
Data: https://github.com/Ali2500/BURST-benchmark (annotations) and TAO (frames).
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from common.benchmarks.layouts.rle_tracks import RLETracks, TrackVideos
from common.errors import InputError
from common.video import Video
from common.video.readers import ImageFolder


class BURST(TrackVideos):
    """BURST: videos of TAO with masks, those of ``train`` made half automatically, at 6 fps; 482 categories of LVIS.

    A video is all of its frames that are on disk; annotated are those that the JSON lists, each for all tracks.

    Args:
        root: folder that holds ``annotations/<split>`` and ``frames/<split>/<part>/<sequence>``.
        split: ``train``, ``val`` or ``test``.
    """

    folders = ("burst",)
    source = "https://github.com/Ali2500/BURST-benchmark"

    @property
    def description(self) -> Path:
        """The JSON of the split: ``train.json``, or of the others ``all_classes.json``."""
        place = self.root / "annotations" / self.split
        return place / ("train.json" if self.split == "train" else "all_classes.json")

    @cached_property
    def sequences(self) -> list[dict[str, Any]]:
        """What the file says of each video that has a track.

        Raises:
            InputError: it names none.
        """
        found = [said for said in self.said.get("sequences", ()) if said["track_category_ids"]]
        if not found:
            raise InputError(f"{self.description}: no sequence in it has a track; unpack the annotations again")
        return found

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> Video:
        said = self.sequences[index]
        id = f"{said['dataset']}/{said['seq_name']}"
        frames = ImageFolder(self.root / "frames" / self.split / said["dataset"] / said["seq_name"], gaps=True)
        place = {name: frame for frame, name in enumerate(frames.names)}
        stems = [Path(name).stem for name in said["annotated_image_paths"]]
        for stem in stems:
            if stem not in place:
                raise InputError(
                    f"{frames.path}: frame {stem} is missing, but {self.description.name} has masks of it; get the "
                    "frames of TAO"
                )
        numbers = {int(target): number for target, number in said["track_category_ids"].items()}
        targets, size = tuple(sorted(numbers)), (said["height"], said["width"])
        row = {target: row for row, target in enumerate(targets)}
        shown = {
            place[stem]: {
                row[int(target)]: {"size": list(size), "counts": mask["rle"]} for target, mask in masks.items()
            }
            for stem, masks in zip(stems, said["segmentations"], strict=True)
        }
        return Video(
            id=id,
            frames=frames,
            fps=float(said.get("fps", 30)),
            targets=targets,
            truth=RLETracks(shown, len(targets), size, f"{self.description}, video {id}"),
            names=frames.names,
            annotated=sorted(shown),
            vocabulary=self.vocabulary,
            categories={target: self.places[number] for target, number in numbers.items()},
        )
