"""SA-V val and test: masklets at 6 fps in videos of 24 fps, with one folder of binary masks per object.

Source: Ravi et al., "SAM 2: Segment Anything in Images and Videos", arXiv 2408.00714.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from common.benchmarks.layouts.per_video import AbsentFrames, MaskFolder, read_list
from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.masks import annotation_size, read_masks
from common.benchmarks.tasks.vos import VOSBenchmark
from common.errors import InputError
from common.video import FrameMasks, ImageFolder, Prompt, Video, write_label_map


class SAV(VOSBenchmark):
    """SA-V: the first mask of each object is given; methods see 24 fps, every fourth frame is scored.

    Each object is scored by the rule of vos-benchmark on its own annotated frames but the first and the last. Objects
    may overlap. Their folders are numbered from 000; targets are numbered from 1 in that order, and
    ``attributes["objects"]`` of a video maps each target to its folder.

    Args:
        root: folder with ``sav_val`` and ``sav_test``, or one of these two; default: a folder ``SA-V``, ``sav_val`` or
            ``sav_test`` in ``$VIDSEG_DATA``.
        split: ``val`` or ``test``.
        videos: names of the videos to use, in this order; default: all videos of the split.
    """

    name = "sav"
    source = "https://ai.meta.com/datasets/segment-anything-video"
    splits = ("val", "test")
    first_sight = True
    protocol = (
        "J&F, 24 fps in, 6 fps scored; an object's annotated frames but first and last, from first sight in annotation "
        "or answer; flat mean over objects"
    )
    layout = """
        sav_val/JPEGImages_24fps/<video>/00000.jpg
        sav_val/Annotations_6fps/<video>/<object>/00000.png       every 4th frame; objects 000, 001, ...
        sav_val/sav_val.txt                                       the videos, one a line; the same for sav_test"""

    def __init__(self, root: str | Path | None = None, split: str = "val", videos: Sequence[str] | None = None) -> None:
        super().__init__(root, split, videos)
        self.folders = ("sav", f"sav{split}")

    @property
    def split_folder(self) -> Path:
        """Folder of the split."""
        nested = self.root / f"sav_{self.split}"
        return nested if nested.is_dir() else self.root

    def frames_folder(self, id: str) -> Path:
        """Return the folder of a video's frames.

        Args:
            id: name of the video.
        """
        return self.split_folder / "JPEGImages_24fps" / id

    def masks_folder(self, id: str) -> Path:
        """Return the folder that holds one folder per object.

        Args:
            id: name of the video.
        """
        return self.split_folder / "Annotations_6fps" / id

    def list_videos(self) -> list[str]:
        """Return the names in the split file."""
        return read_list(self.split_folder / f"sav_{self.split}.txt")

    def open(self, id: str) -> Video:
        """Open a video.

        Args:
            id: name of the video.

        Raises:
            InputError: frames or annotations are missing or inconsistent.
        """
        objects = dict(enumerate(list_object_folders(self.masks_folder(id)), 1))
        frames = self._frames(id, objects.values())
        truth = ObjectFolders([MaskFolder(o, frames.names, frames.size, True, True) for o in objects.values()])
        starts = {target: truth.first(row) for row, target in enumerate(objects)}
        return Video(
            id=id,
            frames=frames,
            prompts=tuple(
                Prompt(target, frame, mask=truth.objects[target - 1].prompt_masks(frame)[0])
                for target, frame in starts.items()
                if frame is not None
            ),
            targets=tuple(objects),
            truth=truth,
            names=frames.names,
            attributes={"objects": {target: folder.name for target, folder in objects.items()}},
            annotated=truth.annotated,
            overlap=True,
        )

    def _frames(self, id: str, objects: Iterable[Path]) -> ImageFolder | AbsentFrames:
        folder = self.frames_folder(id)
        if folder.parent.is_dir():
            return ImageFolder(folder)
        return AbsentFrames(folder, sorted({path.stem for masks in objects for path in masks.glob("*.png")}))

    def scored_frames(self, video: Video) -> Sequence[int]:
        """Return the frames that are scored for any object."""
        return sorted(set().union(*_scored_object_frames(video)))

    def counts(self, video: Video) -> Tensor:
        """Return which scored frames count for which object, bool (T, N)."""
        object_frames = [set(frames) for frames in _scored_object_frames(video)]
        return torch.tensor([[frame in frames for frames in object_frames] for frame in self.scored_frames(video)])

    # Submissions.

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """Write a PNG of 0 and 1, ``<video>/<object>/<frame>.png``, per annotated frame. See ``Benchmark.write``."""
        annotated = set(video.annotated or ())
        for answer in answers:
            if answer.frame in annotated:
                name = f"{video.name(answer.frame)}.png"
                for object, mask in zip(object_names(video), answer.select(video.targets), strict=True):
                    write_label_map(folder / video.id / object / name, mask.to(torch.uint8))
            yield answer

    def read(self, video: Video, folder: Path, errors: SubmissionErrors) -> Iterator[FrameMasks]:
        """Read the scored frames from a tree of binary PNGs or from COCO RLE by object. See ``read_masks``.

        Label maps are not accepted: objects of SA-V overlap, and the first one has number 0.
        """
        frames, video_folder = self.scored_frames(video), folder / video.id
        if any(video_folder.glob("*.png")):
            first = object_names(video)[0]
            errors.add(f"{video_folder}: label maps, but objects of SA-V overlap; write {first}/<frame>.png")
            empty = torch.zeros(len(video.targets), *annotation_size(video, frames), dtype=torch.bool)
            yield from (FrameMasks(frame, video.targets, empty, torch.zeros(len(empty))) for frame in frames)
            return
        by_folder = dataclasses.replace(video, targets=tuple(map(int, object_names(video))))
        for answer in read_masks(by_folder, frames, folder, errors):
            yield dataclasses.replace(answer, targets=video.targets)


class ObjectFolders:
    """Annotations of one video with one folder of binary masks per object: bool (N, H, W).

    Args:
        objects: label maps of each object.

    Attributes:
        annotated: indices of the frames in which any object is annotated, ascending.
    """

    def __init__(self, objects: list[MaskFolder]) -> None:
        self.objects = objects
        for masks in objects:
            masks.targets = (1,)
        self.annotated = sorted(set().union(*(masks.annotated for masks in objects)))

    def __getitem__(self, frame: int) -> Tensor | None:
        masks = [object_masks[frame] for object_masks in self.objects]
        annotated = next((mask for mask in masks if mask is not None), None)
        if annotated is None:
            return None
        return torch.cat([torch.zeros_like(annotated) if mask is None else mask for mask in masks])

    def first(self, row: int) -> int | None:
        """Return the index of the first frame that contains an object; None if there is none.

        Args:
            row: index of the object.
        """
        masks = self.objects[row]
        return next((frame for frame in masks.annotated if masks.labels(frame).any()), None)


def list_object_folders(folder: Path) -> list[Path]:
    """Return the folders of a video's objects, sorted by number.

    Args:
        folder: folder that holds them.

    Raises:
        InputError: there are no object folders, more than 254, or one whose name is not a number.
    """
    folders = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not folders:
        raise InputError(f"{folder}: no folders of objects, such as 000, in it; unpack the annotations")
    for path in folders:
        if not path.name.isdecimal():
            raise InputError(f"{path}: not a number; the folder of an object is named like 000")
    if len(folders) > 254:
        raise InputError(f"{folder}: {len(folders)} objects; there can be 254")
    return sorted(folders, key=lambda path: int(path.name))


def object_names(video: Video) -> list[str]:
    """Return the name of each target's folder.

    Args:
        video: the video.
    """
    return list(video.attributes["objects"].values())


def _scored_object_frames(video: Video) -> list[list[int]]:
    """Return each object's annotated frames but the first and the last."""
    assert isinstance(video.truth, ObjectFolders)
    return [masks.annotated[1:-1] for masks in video.truth.objects]
