"""Layout with a folder of frames and a folder of label maps per video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from unicodedata import normalize

import torch
from torch import Tensor

from common.benchmarks.tasks.vos import VOSBenchmark
from common.errors import InputError
from common.files import find_child
from common.video import Prompt, Video
from common.video.masks import VOID, check_annotation, masks_from_labels, read_label_map, unique_ids
from common.video.readers import ImageFolder, natural_order


class FolderVOS(VOSBenchmark):
    """Frames ``JPEGImages/<video>/<frame>.jpg``, label maps ``Annotations/<video>/<frame>.png``.

    By default the targets are those of DAVIS: the ids from 1 to the highest of the first annotated frame, whose masks
    are the prompts. A split can be scored if it has annotations other than the prompts. Without ``JPEGImages``,
    submissions can still be scored.

    Attributes:
        fps: frame rate of the released frames.
        gaps: allow gaps in the numbering of frames.
        sparse: only some frames are annotated. Otherwise a frame without annotation is an error.
        one_size: annotations have the size of the frames.
    """

    fps = 24.0
    gaps = False
    sparse = False
    one_size = True

    def frames_folder(self, id: str) -> Path:
        """Return the folder of a video's frames.

        Args:
            id: name of the video.
        """
        return find_child(self.root / "JPEGImages", id)

    def masks_folder(self, id: str) -> Path:
        """Return the folder of a video's label maps.

        Args:
            id: name of the video.
        """
        return find_child(self.root / "Annotations", id)

    def starts(self, id: str, truth: MaskFolder) -> dict[int, int]:
        """Return the frame index of each target's prompt, by ascending target id.

        Args:
            id: name of the video.
            truth: its label maps.
        """
        first = truth.annotated[0]
        return dict.fromkeys(range(1, int(truth.labels(first).max()) + 1), first)

    def open(self, id: str) -> Video:
        """Open a video.

        Args:
            id: name of the video.

        Raises:
            InputError: frames or annotations are missing or inconsistent.
        """
        frames = self.frames(id)
        size = frames.size if self.one_size else None
        truth = MaskFolder(self.masks_folder(id), frames.names, size, self.single_object, self.sparse)
        starts = self.starts(id, truth)
        truth.targets = tuple(starts)
        prompt_frames = set(starts.values()) or {truth.annotated[0]}
        masks = {frame: truth.prompt_masks(frame) for frame in prompt_frames}
        prompts = tuple(
            Prompt(target, frame, mask=masks[frame][row])
            for row, (target, frame) in enumerate(starts.items())
            if masks[frame][row].any()
        )
        # A split whose only annotations are the prompts is scored by a server.
        hidden = prompt_frames.issuperset(truth.annotated) and len(truth.annotated) < len(frames)
        return Video(
            id=id,
            frames=frames,
            fps=self.fps,
            prompts=prompts,
            targets=truth.targets,
            truth=None if hidden else truth,
            names=frames.names,
            annotated=truth.annotated if self.sparse else None,
        )

    def frames(self, id: str) -> ImageFolder | AbsentFrames:
        """Return a video's frames; ``AbsentFrames``, named after the label maps, if the data set has no frames.

        Args:
            id: name of the video.
        """
        folder = self.frames_folder(id)
        if folder.parent.is_dir():
            return ImageFolder(folder, gaps=self.gaps)
        return AbsentFrames(
            folder, sorted((path.stem for path in self.masks_folder(id).glob("[!.]*.png")), key=natural_order)
        )


class AbsentFrames:
    """Placeholder for frames that are not available; sufficient for scoring a submission.

    Args:
        folder: where the frames would be.
        names: file stem of each frame.

    Attributes:
        size: None, since no frame can be read.

    Raises:
        InputError: there are no names either; on reading, always.
    """

    def __init__(self, folder: Path, names: list[str]) -> None:
        if not names:
            raise InputError(f"{folder}: no such folder of frames, and there are no annotations either")
        self.folder, self.names = folder, names
        self.size = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        raise InputError(f"{self.folder}: no such folder of frames; unpack the data set's frames to run a method on it")

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(len(self)))


class MaskFolder:
    """Annotations of one video, one PNG label map per annotated frame, read on access as masks bool (N, H, W).

    Args:
        folder: folder of the label maps.
        names: file stem of each frame of the video.
        size: (H, W) of the frames; default: that of the first label map.
        single_object: merge all labels into target 1.
        sparse: return None for a frame without a label map. Otherwise it is an error.

    Attributes:
        annotated: indices of the frames that have a label map, ascending.
        targets: ids of the N rows.

    Raises:
        InputError: the folder does not exist, or no frame of the video is annotated.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        size: tuple[int, int] | None = None,
        single_object: bool = False,
        sparse: bool = False,
    ) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder of annotations")
        self.folder, self.names, self.single_object, self.sparse = folder, names, single_object, sparse
        self.frame_size = size
        files = {normalize("NFC", path.stem) for path in folder.glob("*.png")}
        self.annotated = [frame for frame, name in enumerate(names) if normalize("NFC", name) in files]
        if not self.annotated:
            raise InputError(f"{folder}: no annotation (.png) has the name of a frame, such as {names[0]}.png")
        self.targets: tuple[int, ...] = ()

    @cached_property
    def size(self) -> tuple[int, int]:
        """Required size (H, W) of every label map."""
        if self.frame_size is not None:
            return self.frame_size
        height, width = self.labels(self.annotated[0]).shape
        return height, width

    @cached_property
    def _annotated(self) -> set[int]:
        return set(self.annotated)

    def __getitem__(self, frame: int) -> Tensor | None:
        if self.sparse and frame not in self._annotated:
            return None
        labels = self.labels(frame)
        if labels.shape != self.size:
            raise InputError(
                f"{self.path(frame)}: the annotation is {tuple(labels.shape)} but the frames are {tuple(self.size)} "
                "(height, width); both must come from the same package of the data set"
            )
        return masks_from_labels(labels, self.targets)

    def prompt_masks(self, frame: int) -> Tensor:
        """Return the masks of a prompt frame, bool (N, H, W).

        Args:
            frame: frame index.

        Raises:
            InputError: the label map has another size than the frames, or contains no object.
        """
        check_annotation(self.labels(frame), self.size, self.path(frame))
        masks = self[frame]
        assert masks is not None
        return masks

    def labels(self, frame: int) -> Tensor:
        """Return the label map of a frame, uint8 (H, W), with void as background.

        Args:
            frame: frame index.
        """
        labels = read_label_map(self.path(frame))
        return (labels > 0).to(torch.uint8) if self.single_object else labels.masked_fill(labels == VOID, 0)

    def path(self, frame: int) -> Path:
        """Return the file of a frame's label map.

        Args:
            frame: frame index.
        """
        return find_child(self.folder, f"{self.names[frame]}.png")


def first_appearances(truth: MaskFolder, frames: Iterable[int] | None = None) -> dict[int, int]:
    """Return the first frame in which each id appears, by ascending id.

    Args:
        truth: label maps.
        frames: frame indices to search, ascending; default: all annotated frames.
    """
    starts: dict[int, int] = {}
    for frame in truth.annotated if frames is None else frames:
        for target in unique_ids(truth.labels(frame)):
            starts.setdefault(target, frame)
    return dict(sorted(starts.items()))


def read_list(path: Path, kind: str = "split file") -> list[str]:
    """Read a list of names, one a line; repeated names are kept once.

    Args:
        path: the file.
        kind: what the file is, for error messages.

    Raises:
        InputError: the file is missing or empty.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such {kind}; check root and split")
    names = list(dict.fromkeys(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()))
    if not names:
        raise InputError(f"{path}: the {kind} is empty; unpack the data set again")
    return names
