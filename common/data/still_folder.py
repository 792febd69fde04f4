"""A folder of photographs with label maps, read as videos of one frame."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

from torch import Tensor

from common.benchmarks.roots import find_root
from common.errors import InputError
from common.video import Prompt, Video, read_image
from common.video.masks import masks_from_labels, read_label_map

PARTS = 10  # one of this many parts is held out


class StillFolder(Sequence[Video]):
    """Photographs ``<name>.jpg`` with palette PNGs ``<name>.png`` (0 background, 1..n objects) as one-frame videos.

    A tenth of the images, selected by the CRC-32 of the name, is held out from training.

    Args:
        root: folder of the images; default: ``stills`` in ``$VIDSEG_DATA``.
        part: ``train`` (nine tenths), ``held_out`` (one tenth) or ``all``.
        prefixes: use only names that start with one of these; default: all.

    Raises:
        InputError: on first access, the folder is missing or has no annotated image.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        part: Literal["train", "held_out", "all"] = "train",
        prefixes: Sequence[str] | None = None,
    ) -> None:
        self.user_root, self.part = root, part
        self.prefixes = None if prefixes is None else tuple(prefixes)

    @cached_property
    def root(self) -> Path:
        """Folder of the images."""
        return find_root(self.user_root, ("stills",), "a folder of <name>.jpg with palette <name>.png")

    @cached_property
    def names(self) -> list[str]:
        """Names of the images, sorted."""
        names = sorted(path.stem for path in self.root.glob("*.png"))
        names = [name for name in names if self.prefixes is None or name.startswith(self.prefixes)]
        selected = [name for name in names if self.part == "all" or is_held_out(name) == (self.part == "held_out")]
        if not selected:
            raise InputError(f"{self.root}: no annotated image of part {self.part!r}")
        return selected

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Video:  # type: ignore[override]
        name = self.names[index]
        image, masks = read_image(self.root / f"{name}.jpg"), self._masks(name)
        if image.shape[:2] != masks.shape[1:]:
            raise InputError(f"{name}: image {tuple(image.shape[:2])} and annotation {tuple(masks.shape[1:])} differ")
        targets = tuple(range(1, len(masks) + 1))
        prompts = tuple(Prompt(target, mask=masks[target - 1]) for target in targets if masks[target - 1].any())
        return Video(name, [image], prompts=prompts, targets=targets, truth=[masks])

    def _masks(self, name: str) -> Tensor:
        labels = read_label_map(self.root / f"{name}.png")
        return masks_from_labels(labels, tuple(range(1, int(labels.max()) + 1)))


def is_held_out(name: str) -> bool:
    """Return whether an image is held out from training.

    Args:
        name: stem of the file.
    """
    return zlib.crc32(name.encode()) % PARTS == 0
