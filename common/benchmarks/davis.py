"""DAVIS 2016 and 2017, semi-supervised.

Sources: Perazzi et al., CVPR 2016; Pont-Tuset et al., arXiv 1704.00675. Data: https://davischallenge.org
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from common.benchmarks.roots import find_root
from common.benchmarks.vos import VosBenchmark
from common.errors import InputError
from common.video import Prompt, Video
from common.video.masks import VOID, check_annotation, masks_from_labels, read_label_map
from common.video.readers import ImageFolder


class Davis(VosBenchmark):
    """DAVIS: the masks of the first frame are given, all frames but the first and the last are scored.

    In 2016 everything that is marked is one target. In 2017 the targets are the ids 1 to the highest of the first
    frame; ids that come later do not count, and an id missing in between counts as a target that is never there.
    Annotated splits serve for training as well.

    Args:
        root: folder that holds ``JPEGImages``, ``Annotations`` and ``ImageSets``; default: a folder ``DAVIS2016``,
            ``DAVIS2017`` or ``DAVIS`` below ``$VIDSEG_DATA`` (case and punctuation do not matter).
        year: 2016 or 2017, protocol and split list. The 2017 package holds the list of 2016 too.
        split: name of a file in ``ImageSets``, e.g. ``train`` or ``val``.
        resolution: name of the folder of frames and annotations, e.g. ``480p``.
        sequences: only these, in this order; default: the whole split.

    Raises:
        InputError: the data, the split, a sequence, a frame or an annotation is missing or does not fit.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        year: int = 2017,
        split: str = "val",
        resolution: str = "480p",
        sequences: Sequence[str] | None = None,
    ) -> None:
        self.year, self.split, self.resolution = int(year), split, resolution
        if self.year not in (2016, 2017):
            raise InputError(f"year {year}: DAVIS is scored by the protocol of 2016 or 2017")
        names = ("davis2016", "davis", "davis2017") if self.year == 2016 else ("davis2017", "davis")
        self.name, self.root = f"davis{year}", find_root(root, names, "https://davischallenge.org")
        self.protocol = f"J&F at {resolution}, all frames but first and last, flat mean over objects of the first frame"
        listed = _read_split(self.root, self.year, resolution, split)
        self.sequences = list(listed if sequences is None else sequences)
        for sequence in self.sequences:
            if sequence not in listed:
                raise InputError(f"{sequence}: not in {self.name} {split}, which has {', '.join(listed)}")

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> Video:
        sequence = self.sequences[index]
        frames = ImageFolder(self.root / "JPEGImages" / self.resolution / sequence)
        truth = DavisMasks(self.root / "Annotations" / self.resolution / sequence, frames, self.year == 2016)
        hidden = self.split.startswith("test")
        prompts = tuple(
            Prompt(target, mask=mask) for target, mask in zip(truth.targets, truth[0], strict=True) if mask.any()
        )
        return Video(
            id=sequence,
            frames=frames,
            prompts=prompts,
            targets=truth.targets,
            truth=None if hidden else truth,
            names=frames.names,
        )


class DavisMasks:
    """Annotations of one sequence, read when asked for: bool (N, H, W) for a frame.

    Args:
        folder: one PNG for each frame.
        frames: of the same sequence, for their names and their size.
        binary: everything that is marked is target 1 (DAVIS 2016).
    """

    def __init__(self, folder: Path, frames: ImageFolder, binary: bool) -> None:
        self.folder, self.names, self.binary = folder, frames.names, binary
        self.size = frames[0].shape[:2]
        first = self._labels(0)
        check_annotation(first, self.size, self._path(0))
        self.targets = tuple(range(1, int(first.max()) + 1))

    def __getitem__(self, frame: int) -> Tensor:
        labels = self._labels(frame)
        if labels.shape != self.size:
            raise InputError(
                f"{self._path(frame)}: the annotation is {tuple(labels.shape)} but the frames are {tuple(self.size)} "
                "(height, width); both must come from the same package of DAVIS"
            )
        return masks_from_labels(labels, self.targets)

    def _path(self, frame: int) -> Path:
        return self.folder / f"{self.names[frame]}.png"

    def _labels(self, frame: int) -> Tensor:
        """Label map uint8 (H, W), void as background."""
        labels = read_label_map(self._path(frame))
        return (labels > 0).to(torch.uint8) if self.binary else labels.masked_fill(labels == VOID, 0)


def _read_split(root: Path, year: int, resolution: str, split: str) -> list[str]:
    """Sequence names of a split file: one name a line, or the pairs of paths of the original 2016 package."""
    places = [root / "ImageSets" / str(year) / f"{split}.txt"]
    if year == 2016:
        places.append(root / "ImageSets" / resolution / f"{split}.txt")
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise InputError(f"{places[0]}: no such split file; check root, year and split")
    lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    # /JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png
    names = dict.fromkeys(Path(words[0]).parent.name if "/" in words[0] else words[0] for words in lines)
    if not names:
        raise InputError(f"{path}: the split file is empty; unpack DAVIS again")
    return list(names)
