"""Data sets of detectron2's catalogue, if detectron2 is installed."""

from __future__ import annotations

import importlib
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.data.coco import ImageFiles, Masks, SegmentMap
from common.errors import InputError
from common.video import Prompt, Video

INSTALL = "pip install --no-build-isolation 'git+https://github.com/facebookresearch/detectron2.git'"


class CatalogueSet:
    """A registered data set in detectron2's format, without crowds and entries without targets.

    An entry is an image with instances (``annotations``) or panoptic segments (``pan_seg_file_name``,
    ``segments_info``), or, as Mask2Former registers YouTube-VIS, a video (``file_names``, and ``annotations`` with one
    list per frame, linked by ``id``).

    Args:
        name: name in the catalogue, e.g. ``coco_2017_train``.
        register: module that registers the data set on import; not needed for those of detectron2.

    Raises:
        InputError: on access, detectron2 or the module is missing, the name is unknown, or an entry lacks a part.
    """

    def __init__(self, name: str, register: str | None = None) -> None:
        self.name, self.register = name, register

    @cached_property
    def entries(self) -> list[tuple[dict[str, Any], dict[Any, dict[str, Any]]]]:
        """Entries that have a target, each with its targets, see ``entry_targets``."""
        catalogue = self._catalogue.DatasetCatalog
        if self.name not in catalogue.list():
            raise InputError(f"{self.name}: not in detectron2's catalogue; register: the module that puts it there")
        pairs = [(entry, entry_targets(entry)) for entry in catalogue.get(self.name)]
        pairs = [(entry, targets) for entry, targets in pairs if targets]
        if not pairs:
            raise InputError(f"{self.name}: no entry of detectron2's catalogue has a target; load it with annotations")
        return pairs

    @cached_property
    def names(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Class names indexed by category ids, the names of things, and the names of stuff."""
        metadata = self._catalogue.MetadataCatalog.get(self.name)
        things, stuff = (tuple(metadata.get(f"{kind}_classes") or ()) for kind in ("thing", "stuff"))
        if not things and not stuff:
            raise InputError(f"{self.name}: its metadata in detectron2's catalogue has no thing_classes; register them")
        if things != stuff:
            return (*things, *stuff), things, stuff
        # One list is registered under both names; the id mapping tells which of its classes are stuff.
        indices = set((metadata.get("stuff_dataset_id_to_contiguous_id") or {}).values())
        return things, things, tuple(name for index, name in enumerate(stuff) if index in indices)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Video:
        try:
            return self._video(*self.entries[index])
        except (KeyError, TypeError) as error:
            raise InputError(f"{self.name}, entry {index}: not in detectron2's format; trouble with {error}") from error

    def _video(self, entry: dict[str, Any], targets: dict[Any, dict[str, Any]]) -> Video:
        files = [Path(file) for file in entry.get("file_names") or [entry["file_name"]]]
        id = files[0].parent.name if "file_names" in entry else files[0].stem
        all_names, things, stuff = self.names
        panoptic, size = "pan_seg_file_name" in entry, (entry["height"], entry["width"])
        vocabulary = all_names if panoptic else things
        stuff_offset = len(all_names) - len(stuff) if all_names != things else 0
        categories = {
            target: annotation["category_id"] + (0 if annotation.get("isthing", True) else stuff_offset)
            for target, annotation in enumerate(targets.values(), start=1)
        }
        if max(categories.values()) >= len(vocabulary):
            raise InputError(f"{self.name}, {id}: category {max(categories.values())} of {len(vocabulary)} names")
        if panoptic:
            truth: Any = SegmentMap(Path(entry["pan_seg_file_name"]), list(targets), size)
        else:
            truth = InstanceTracks(instances_by_frame(entry), list(targets), size, id)
        return Video(
            id=id,
            frames=ImageFiles(files, size),
            prompts=(Prompt(1, vocabulary=vocabulary, stuff=stuff if panoptic else ()),),
            targets=tuple(categories),
            truth=truth,
            names=[file.stem for file in files],
            vocabulary=vocabulary,
            stuff=stuff if panoptic else (),
            categories=categories,
        )

    @cached_property
    def _catalogue(self) -> Any:
        try:
            module = importlib.import_module("detectron2.data")
            if self.register is not None:
                importlib.import_module(self.register)
        except ImportError as error:
            raise InputError(
                f"{self.name}: of detectron2's catalogue, but {error}; {INSTALL}, or mend register"
            ) from error
        return module


def instances_by_frame(entry: dict[str, Any]) -> list[dict[Any, dict[str, Any]]]:
    """Return the instances of each frame by track id; in an image, by their index.

    Args:
        entry: entry of the catalogue.
    """
    annotations = entry.get("annotations") or []
    if "file_names" in entry:
        frames = [{instance["id"]: instance for instance in frame} for frame in annotations]
    else:
        frames = [dict(enumerate(annotations))]
    return [{key: instance for key, instance in frame.items() if not instance.get("iscrowd")} for frame in frames]


def entry_targets(entry: dict[str, Any]) -> dict[Any, dict[str, Any]]:
    """Return the targets of an entry: segments by id, or instances by track id.

    Args:
        entry: entry of the catalogue.
    """
    if "pan_seg_file_name" in entry:
        return {segment["id"]: segment for segment in entry["segments_info"] if not segment.get("iscrowd")}
    # Reversed, so that each track is described by the first frame that contains it.
    frames = reversed(instances_by_frame(entry))
    return {key: instance for frame in frames for key, instance in frame.items() if instance.get("segmentation")}


class InstanceTracks:
    """Masks bool (N, H, W) of each frame; empty where an instance is not annotated.

    Args:
        frames: instances of each frame, by track id.
        keys: track ids of the N rows.
        size: (H, W).
        where: location, for error messages.
    """

    def __init__(
        self, frames: list[dict[Any, dict[str, Any]]], keys: list[Any], size: tuple[int, int], where: str
    ) -> None:
        self.frames, self.keys, self.size, self.where = frames, keys, size, where

    def __getitem__(self, frame: int) -> Tensor:
        instances = self.frames[frame].items()
        segmentations = {key: instance["segmentation"] for key, instance in instances if instance.get("segmentation")}
        out = torch.zeros(len(self.keys), *self.size, dtype=torch.bool)
        if segmentations:
            rows = [self.keys.index(key) for key in segmentations]
            out[rows] = Masks(list(segmentations.values()), self.size, self.where)[0]
        return out
