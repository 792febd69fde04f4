"""Base class of data sets with one JSON file of RLE masks per split: OVIS, YouTube-VIS and BURST."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.benchmarks.roots import find_root
from common.errors import InputError
from common.video import Video
from common.video.masks import RLE, rle_decode


class TrackVideos(ABC):
    """Annotated videos of a split, for training: without prompts and protocol.

    Args:
        root: folder of the data; default: the first of ``folders`` found in ``$VIDSEG_DATA``.
        split: part of the data set.

    Attributes:
        folders: accepted names of the data folder, preferred first, in lower-case letters and digits.
        source: where to obtain the data.
    """

    folders: tuple[str, ...]
    source: str

    def __init__(self, root: str | Path | None = None, split: str = "train") -> None:
        self.user_root, self.split = root, split

    @cached_property
    def root(self) -> Path:
        """Folder of the data.

        Raises:
            InputError: the folder does not exist; the message says where to obtain the data and where to put it.
        """
        return find_root(self.user_root, self.folders, self.source)

    @property
    @abstractmethod
    def annotation_file(self) -> Path:
        """JSON file of the split."""

    @cached_property
    def annotations(self) -> dict[str, Any]:
        """Content of the JSON file.

        Raises:
            InputError: the file is missing or damaged.
        """
        if not self.annotation_file.is_file():
            raise InputError(f"{self.annotation_file}: no such annotations; get them from {self.source}")
        try:
            content: dict[str, Any] = json.loads(self.annotation_file.read_text(encoding="utf-8"))
            return content
        except ValueError as error:
            raise InputError(f"{self.annotation_file}: damaged ({error}); unpack the annotations again") from error

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """Names of the categories, by ascending category id."""
        return tuple(entry["name"] for entry in sorted(self.annotations["categories"], key=lambda entry: entry["id"]))

    @cached_property
    def category_index(self) -> dict[int, int]:
        """Index in the vocabulary of each category id."""
        ids = sorted(entry["id"] for entry in self.annotations["categories"])
        return {id: index for index, id in enumerate(ids)}

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Video: ...


class RLETracks:
    """Masks of a video's targets, decoded from RLE on access: bool (N, H, W), or None for an unannotated frame.

    Args:
        frames: for each annotated frame, the COCO RLE of each visible row. ``counts`` is a string or a list of runs.
        rows: number N of targets.
        size: (H, W).
        where: file and video, for error messages.
    """

    def __init__(self, frames: Mapping[int, Mapping[int, RLE]], rows: int, size: tuple[int, int], where: str) -> None:
        self.frames, self.rows, self.size, self.where = frames, rows, size, where

    def __getitem__(self, frame: int) -> Tensor | None:
        if frame not in self.frames:
            return None
        rles = self.frames[frame]
        masks = torch.zeros(self.rows, *self.size, dtype=torch.bool)
        if rles:
            masks[list(rles)] = self._decode(list(rles.values()), frame)
        return masks

    def _decode(self, rles: Sequence[RLE], frame: int) -> Tensor:
        try:
            masks = rle_decode([_compress(rle) for rle in rles])
        except (InputError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self.where}, frame {frame}: {error}; unpack the annotations again") from error
        if masks.shape[1:] != self.size:
            raise InputError(f"{self.where}, frame {frame}: a mask is {tuple(masks.shape[1:])}, not {self.size}")
        return masks


def _compress(rle: RLE) -> RLE:
    """Compress the counts as COCO does; YouTube-VIS stores plain lists of runs."""
    if isinstance(rle["counts"], str):
        return rle
    from pycocotools import mask as coco

    compressed = coco.frPyObjects(rle, *rle["size"])
    return {"size": rle["size"], "counts": compressed["counts"].decode()}
