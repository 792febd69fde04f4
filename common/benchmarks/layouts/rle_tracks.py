"""Training sets whose masks are RLE in one JSON for a whole split: what OVIS, YouTube-VIS and BURST share."""

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
from common.video.masks import rle_decode


class TrackVideos(ABC):
    """A split as annotated videos to train on: no prompts, no protocol.

    Args:
        root: folder of the data; default: the first of ``folders`` below ``$VIDSEG_DATA``.
        split: part of the data set.

    Attributes:
        folders: accepted names of the data's folder, best first, in lower case and digits alone.
        source: where to get the data.
    """

    folders: tuple[str, ...]
    source: str

    def __init__(self, root: str | Path | None = None, split: str = "train") -> None:
        self.given_root, self.split = root, split

    @cached_property
    def root(self) -> Path:
        """Folder of the data.

        Raises:
            InputError: it is not there; says where to get it and where to put it.
        """
        return find_root(self.given_root, self.folders, self.source)

    @property
    @abstractmethod
    def description(self) -> Path:
        """The JSON of the split."""

    @cached_property
    def said(self) -> dict[str, Any]:
        """Its content.

        Raises:
            InputError: it is missing or damaged.
        """
        if not self.description.is_file():
            raise InputError(f"{self.description}: no such annotations; get them from {self.source}")
        try:
            return json.loads(self.description.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{self.description}: damaged ({error}); unpack the annotations again") from error

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """Names of the categories, in the order of their numbers."""
        return tuple(entry["name"] for entry in sorted(self.said["categories"], key=lambda entry: entry["id"]))

    @cached_property
    def places(self) -> dict[int, int]:
        """Place in the vocabulary of each category's number."""
        numbers = sorted(entry["id"] for entry in self.said["categories"])
        return {number: place for place, number in enumerate(numbers)}

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Video: ...


class RLETracks:
    """Masks of a video's targets, bool (N, H, W) of a frame, decoded when asked for; a frame without RLE shows none.

    Args:
        frames: of each annotated frame, the RLE of each row that it shows. ``counts`` are COCO's, compressed or a list.
        rows: number of targets.
        size: (H, W).
        where: file and video, for messages.
    """

    def __init__(self, frames: Mapping[int, Mapping[int, dict]], rows: int, size: tuple[int, int], where: str) -> None:
        self.frames, self.rows, self.size, self.where = frames, rows, size, where

    def __getitem__(self, frame: int) -> Tensor | None:
        if frame not in self.frames:
            return None
        shown = self.frames[frame]
        masks = torch.zeros(self.rows, *self.size, dtype=torch.bool)
        if shown:
            masks[list(shown)] = self._decoded(list(shown.values()), frame)
        return masks

    def _decoded(self, rles: Sequence[dict], frame: int) -> Tensor:
        try:
            masks = rle_decode([_compressed(rle) for rle in rles])
        except (InputError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self.where}, frame {frame}: {error}; unpack the annotations again") from error
        if masks.shape[1:] != self.size:
            raise InputError(f"{self.where}, frame {frame}: a mask is {tuple(masks.shape[1:])}, not {self.size}")
        return masks


def _compressed(rle: dict) -> dict:
    """RLE with counts as COCO compresses them; YouTube-VIS has plain lists of runs."""
    if isinstance(rle["counts"], str):
        return rle
    from pycocotools import mask as coco

    packed = coco.frPyObjects(rle, *rle["size"])
    return {"size": rle["size"], "counts": packed["counts"].decode()}
