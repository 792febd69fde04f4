"""SA-V val and test: masklets at 6 frames a second in videos of 24, a folder of binary masks for each object.

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
    """SA-V: the first mask of each object is given; methods see 24 frames a second, every fourth is scored.

    Each object counts by the rule of vos-benchmark on its own annotated frames but the first and the last. Objects may
    overlap. Their folders are numbered from 000: targets are numbered from 1 in that order, and
    ``attributes["objects"]`` of a video maps a target to its folder.

    Args:
        root: folder that holds ``sav_val`` and ``sav_test``, or what is in one of them; default: a folder ``SA-V`` or
            one of these below ``$VIDSEG_DATA``.
        split: ``val`` or ``test``.
        videos: only these, in this order; default: the whole split.
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
        sav_val/sav_val.txt                                       the videos, one a line; likewise sav_test"""

    def __init__(self, root: str | Path | None = None, split: str = "val", videos: Sequence[str] | None = None) -> None:
        super().__init__(root, split, videos)
        self.folders = ("sav", f"sav{split}")

    @property
    def place(self) -> Path:
        """Folder of the split."""
        inner = self.root / f"sav_{self.split}"
        return inner if inner.is_dir() else self.root

    def frames_folder(self, id: str) -> Path:
        """Where a video's frames lie."""
        return self.place / "JPEGImages_24fps" / id

    def masks_folder(self, id: str) -> Path:
        """Where the folders of its objects lie."""
        return self.place / "Annotations_6fps" / id

    def listed(self) -> list[str]:
        """Names of the split file."""
        return read_list(self.place / f"sav_{self.split}.txt")

    def open(self, id: str) -> Video:
        """One video.

        Raises:
            InputError: its frames or annotations are missing, or do not fit each other.
        """
        objects = dict(enumerate(object_folders(self.masks_folder(id)), 1))
        frames = self._frames(id, objects.values())
        truth = ObjectFolders([MaskFolder(o, frames.names, frames.size, True, True) for o in objects.values()])
        starts = {target: truth.first(row) for row, target in enumerate(objects)}
        return Video(
            id=id,
            frames=frames,
            prompts=tuple(
                Prompt(target, frame, mask=truth.objects[target - 1].shown(frame)[0])
                for target, frame in starts.items()
                if frame is not None
            ),
            targets=tuple(objects),
            truth=truth,
            names=frames.names,
            attributes={"objects": {target: folder.name for target, folder in objects.items()}},
            annotated=truth.annotated,
        )

    def _frames(self, id: str, objects: Iterable[Path]) -> ImageFolder | AbsentFrames:
        folder = self.frames_folder(id)
        if folder.parent.is_dir():
            return ImageFolder(folder)
        return AbsentFrames(folder, sorted({path.stem for place in objects for path in place.glob("*.png")}))

    def scored_frames(self, video: Video) -> Sequence[int]:
        """Frames that count for any object."""
        return sorted(set().union(*_inner(video)))

    def counts(self, video: Video) -> Tensor:
        """An object's own annotated frames but the first and the last, bool (T, N)."""
        inner = [set(frames) for frames in _inner(video)]
        return torch.tensor([[frame in own for own in inner] for frame in self.scored_frames(video)])

    # Submissions.

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """A PNG of 0 and 1, ``<video>/<object>/<frame>.png``, for every annotated frame."""
        wanted = set(video.annotated or ())
        for answer in answers:
            if answer.frame in wanted:
                name = f"{video.name(answer.frame)}.png"
                for object, mask in zip(names(video), answer.select(video.targets), strict=True):
                    write_label_map(folder / video.id / object / name, mask.to(torch.uint8))
            yield answer

    def read(self, video: Video, folder: Path, faults: SubmissionErrors) -> Iterator[FrameMasks]:
        """The scored frames of a tree of binary PNGs, or of COCO RLE by object. See ``read_masks``.

        One label map a frame is no form for SA-V: objects overlap, and the first is number 0.
        """
        frames, place = self.scored_frames(video), folder / video.id
        if any(place.glob("*.png")):
            faults.report(f"{place}: label maps, but objects of SA-V overlap; write {names(video)[0]}/<frame>.png")
            nothing = torch.zeros(len(video.targets), *annotation_size(video, frames), dtype=torch.bool)
            yield from (FrameMasks(frame, video.targets, nothing, torch.zeros(len(nothing))) for frame in frames)
            return
        by_folder = dataclasses.replace(video, targets=tuple(map(int, names(video))))
        for answer in read_masks(by_folder, frames, folder, faults):
            yield dataclasses.replace(answer, targets=video.targets)


class ObjectFolders:
    """Annotations of one video, a folder of binary masks for each object: bool (N, H, W).

    Attributes:
        objects: the annotations of each.
        annotated: indices of the frames in which some object is annotated, ascending.
    """

    def __init__(self, objects: list[MaskFolder]) -> None:
        self.objects = objects
        for one in objects:
            one.targets = (1,)
        self.annotated = sorted(set().union(*(one.annotated for one in objects)))

    def __getitem__(self, frame: int) -> Tensor | None:
        masks = [one[frame] for one in self.objects]
        known = next((mask for mask in masks if mask is not None), None)
        if known is None:
            return None
        return torch.cat([torch.zeros_like(known) if mask is None else mask for mask in masks])

    def first(self, row: int) -> int | None:
        """Index of the first frame that shows an object; None if there is none."""
        one = self.objects[row]
        return next((frame for frame in one.annotated if one.labels(frame).any()), None)


def object_folders(folder: Path) -> list[Path]:
    """Folders of a video's objects, by number.

    Raises:
        InputError: no such folder, no objects in it, too many, or a name that is no number.
    """
    found = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not found:
        raise InputError(f"{folder}: no folders of objects, such as 000, in it; unpack the annotations")
    for path in found:
        if not path.name.isdecimal():
            raise InputError(f"{path}: not a number; the folder of an object is named like 000")
    if len(found) > 254:
        raise InputError(f"{folder}: {len(found)} objects; there can be 254")
    return sorted(found, key=lambda path: int(path.name))


def names(video: Video) -> list[str]:
    """Folder of each target."""
    return list(video.attributes["objects"].values())


def _inner(video: Video) -> list[list[int]]:
    """Each object's annotated frames but the first and the last."""
    assert isinstance(video.truth, ObjectFolders)
    return [one.annotated[1:-1] for one in video.truth.objects]
