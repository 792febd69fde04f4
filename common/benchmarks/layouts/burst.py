"""BURST as a training set.

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
    """BURST: videos of TAO with masks of 482 LVIS categories; ``train`` is annotated semi-automatically at 6 fps.

    A video consists of all frames on disk. Annotated frames are those listed in the JSON, each for all tracks.

    Args:
        root: folder with ``annotations/<split>`` and ``frames/<split>/<part>/<sequence>``.
        split: ``train``, ``val`` or ``test``.
    """

    folders = ("burst",)
    source = "https://github.com/Ali2500/BURST-benchmark"

    @property
    def annotation_file(self) -> Path:
        """JSON file of the split: ``train.json``, or ``all_classes.json`` of the other splits."""
        folder = self.root / "annotations" / self.split
        return folder / ("train.json" if self.split == "train" else "all_classes.json")

    @cached_property
    def sequences(self) -> list[dict[str, Any]]:
        """Entries of the JSON file for the videos that have a track.

        Raises:
            InputError: there is none.
        """
        sequences = [entry for entry in self.annotations.get("sequences", ()) if entry["track_category_ids"]]
        if not sequences:
            raise InputError(f"{self.annotation_file}: no sequence in it has a track; unpack the annotations again")
        return sequences

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> Video:
        sequence = self.sequences[index]
        id = f"{sequence['dataset']}/{sequence['seq_name']}"
        frames = ImageFolder(self.root / "frames" / self.split / sequence["dataset"] / sequence["seq_name"], gaps=True)
        frame_index = {name: frame for frame, name in enumerate(frames.names)}
        stems = [Path(name).stem for name in sequence["annotated_image_paths"]]
        for stem in stems:
            if stem not in frame_index:
                raise InputError(
                    f"{frames.path}: frame {stem} is missing, but {self.annotation_file.name} has masks of it; get the "
                    "frames of TAO"
                )
        category_ids = {int(target): number for target, number in sequence["track_category_ids"].items()}
        targets, size = tuple(sorted(category_ids)), (sequence["height"], sequence["width"])
        row = {target: row for row, target in enumerate(targets)}
        rles = {
            frame_index[stem]: {
                row[int(target)]: {"size": list(size), "counts": mask["rle"]} for target, mask in masks.items()
            }
            for stem, masks in zip(stems, sequence["segmentations"], strict=True)
        }
        return Video(
            id=id,
            frames=frames,
            fps=float(sequence.get("fps", 30)),
            targets=targets,
            truth=RLETracks(rles, len(targets), size, f"{self.annotation_file}, video {id}"),
            names=frames.names,
            annotated=sorted(rles),
            vocabulary=self.vocabulary,
            categories={target: self.category_index[number] for target, number in category_ids.items()},
        )
