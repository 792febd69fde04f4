"""Data sets with a folder of frames and a folder of label maps for each video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from common.benchmarks.tasks.vos import VOSBenchmark
from common.errors import InputError
from common.video import Prompt, Video
from common.video.masks import VOID, check_annotation, masks_from_labels, read_label_map
from common.video.readers import ImageFolder


class FolderVOS(VOSBenchmark):
    """Frames ``JPEGImages/<video>/<frame>.jpg``, label maps ``Annotations/<video>/<frame>.png``.

    Targets are by default those of DAVIS: ids 1 to the highest of the first annotated frame, whose masks are given. A
    split is scored if it has more annotations than those that are given. Where ``JPEGImages`` is missing altogether,
    submissions can still be scored.

    Attributes:
        fps: frames per second of the released frames.
        gaps: names of frames may leave numbers out.
        sparse: only some frames are annotated. Otherwise a frame without annotation is an error.
        one_size: annotations have the size of the frames.
    """

    fps = 24.0
    gaps = False
    sparse = False
    one_size = True

    def frames_folder(self, id: str) -> Path:
        """Where a video's frames lie."""
        return self.root / "JPEGImages" / id

    def masks_folder(self, id: str) -> Path:
        """Where its label maps lie."""
        return self.root / "Annotations" / id

    def starts(self, id: str, truth: MaskFolder) -> dict[int, int]:
        """The targets, ids ascending, and the frame index at which the mask of each is given."""
        first = truth.annotated[0]
        return dict.fromkeys(range(1, int(truth.labels(first).max()) + 1), first)

    def open(self, id: str) -> Video:
        """One video.

        Raises:
            InputError: its frames or annotations are missing, or do not fit each other.
        """
        frames = self.frames(id)
        size = frames.size if self.one_size else None
        truth = MaskFolder(self.masks_folder(id), frames.names, size, self.any_label, self.sparse)
        starts = self.starts(id, truth)
        truth.targets = tuple(starts)
        given = set(starts.values()) or {truth.annotated[0]}
        masks = {frame: truth.shown(frame) for frame in given}
        prompts = tuple(
            Prompt(target, frame, mask=masks[frame][row])
            for row, (target, frame) in enumerate(starts.items())
            if masks[frame][row].any()
        )
        hidden = given.issuperset(truth.annotated) and len(truth.annotated) < len(frames)
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
        """A video's frames; without any video's frames here, those that its label maps are named after."""
        folder = self.frames_folder(id)
        if folder.parent.is_dir():
            return ImageFolder(folder, gaps=self.gaps)
        return AbsentFrames(folder, sorted(path.stem for path in self.masks_folder(id).glob("*.png")))


class AbsentFrames:
    """Frames that are not on this machine: enough to score a submission, not to make one."""

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
    """Annotations of one video, a PNG label map for each annotated frame, read when asked for: bool (N, H, W).

    Args:
        folder: of the label maps.
        names: file stem of each frame of the video.
        size: (H, W) of the frames; None = of the first label map.
        any_label: everything that is marked is target 1.
        sparse: a frame without a label map is None, not an error.

    Attributes:
        annotated: indices of the frames that have a label map, ascending.
        targets: ids of the rows.

    Raises:
        InputError: no such folder, or none of the video's frames is annotated.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        size: tuple[int, int] | None = None,
        any_label: bool = False,
        sparse: bool = False,
    ) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder of annotations")
        self.folder, self.names, self.any_label, self.sparse, self.given_size = folder, names, any_label, sparse, size
        files = {path.stem for path in folder.glob("*.png")}
        self.annotated = [frame for frame, name in enumerate(names) if name in files]
        if not self.annotated:
            raise InputError(f"{folder}: no annotation (.png) has the name of a frame, such as {names[0]}.png")
        self.targets: tuple[int, ...] = ()

    @cached_property
    def size(self) -> tuple[int, int]:
        """(H, W) that every label map must have."""
        return self.given_size or tuple(self.labels(self.annotated[0]).shape)  # type: ignore[return-value]

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

    def shown(self, frame: int) -> Tensor:
        """Masks of a frame whose annotation is given to the model; there must be an object in it."""
        check_annotation(self.labels(frame), self.size, self.path(frame))
        masks = self[frame]
        assert masks is not None
        return masks

    def labels(self, frame: int) -> Tensor:
        """Label map uint8 (H, W), void as background."""
        labels = read_label_map(self.path(frame))
        return (labels > 0).to(torch.uint8) if self.any_label else labels.masked_fill(labels == VOID, 0)

    def path(self, frame: int) -> Path:
        """File of a frame's label map."""
        return self.folder / f"{self.names[frame]}.png"


def first_appearances(truth: MaskFolder, frames: Iterable[int] | None = None) -> dict[int, int]:
    """Every id in the label maps of the frames (default: all annotated), ascending, and the first frame with it."""
    starts: dict[int, int] = {}
    for frame in truth.annotated if frames is None else frames:
        for target in truth.labels(frame).unique().tolist():
            if target and target not in starts:
                starts[target] = frame
    return dict(sorted(starts.items()))


def read_list(path: Path, what: str = "split file") -> list[str]:
    """Names of a list file, one a line.

    Raises:
        InputError: no such file, or no name in it.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such {what}; check root and split")
    names = list(dict.fromkeys(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()))
    if not names:
        raise InputError(f"{path}: the {what} is empty; unpack the data set again")
    return names
