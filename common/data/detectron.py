"""Data sets of detectron2's catalogue to train on, where detectron2 is installed."""

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
    """A registered data set whose entries are of detectron2's format: an image with instances (``annotations``) or
    panoptic segments (``pan_seg_file_name``, ``segments_info``); or, as Mask2Former registers YouTube-VIS, a video
    (``file_names``, and ``annotations`` a list for each frame, joined by their ``id``). Crowds are left out, and so are
    entries without a target.

    Args:
        name: as it is registered, e.g. ``coco_2017_train``.
        register: module that registers it when it is imported; detectron2's own need none.

    Raises:
        InputError: on use: detectron2 or the module is missing, the name is unknown, or an entry lacks a part.
    """

    def __init__(self, name: str, register: str | None = None) -> None:
        self.name, self.register = name, register

    @cached_property
    def entries(self) -> list[tuple[dict[str, Any], dict[Any, dict[str, Any]]]]:
        """Entries that have a target, and the targets of each; see ``targets_of``."""
        catalogue = self._catalogue.DatasetCatalog
        if self.name not in catalogue.list():
            raise InputError(f"{self.name}: not in detectron2's catalogue; register: the module that puts it there")
        found = [(entry, targets_of(entry)) for entry in catalogue.get(self.name)]
        kept = [(entry, targets) for entry, targets in found if targets]
        if not kept:
            raise InputError(f"{self.name}: no entry of detectron2's catalogue has a target; load it with annotations")
        return kept

    @cached_property
    def names(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """The names that category numbers count, those of things, and those of stuff behind them."""
        said = self._catalogue.MetadataCatalog.get(self.name)
        things, stuff = (tuple(said.get(f"{kind}_classes") or ()) for kind in ("thing", "stuff"))
        if not things and not stuff:
            raise InputError(f"{self.name}: its metadata in detectron2's catalogue has no thing_classes; register them")
        if things != stuff:
            return (*things, *stuff), things, stuff
        places = set((said.get("stuff_dataset_id_to_contiguous_id") or {}).values())  # one list under both names
        return things, things, tuple(name for place, name in enumerate(stuff) if place in places)

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
        joint, things, stuff = self.names
        panoptic = "pan_seg_file_name" in entry
        vocabulary = joint if panoptic else things
        behind = len(joint) - len(stuff) if joint != things else 0
        categories = {
            target: one["category_id"] + (0 if one.get("isthing", True) else behind)
            for target, one in enumerate(targets.values(), start=1)
        }
        if max(categories.values()) >= len(vocabulary):
            raise InputError(f"{self.name}, {id}: category {max(categories.values())} of {len(vocabulary)} names")
        if panoptic:
            truth: Any = SegmentMap(Path(entry["pan_seg_file_name"]), list(targets))
        else:
            truth = InstanceTracks(frames_of(entry), list(targets), (entry["height"], entry["width"]), id)
        return Video(
            id=id,
            frames=ImageFiles(files),
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


def frames_of(entry: dict[str, Any]) -> list[dict[Any, dict[str, Any]]]:
    """The instances of each frame by what joins them over time; in an image each is by itself."""
    said = entry.get("annotations") or []
    frames = [{one["id"]: one for one in some} for some in said] if "file_names" in entry else [dict(enumerate(said))]
    return [{key: one for key, one in some.items() if not one.get("iscrowd")} for some in frames]


def targets_of(entry: dict[str, Any]) -> dict[Any, dict[str, Any]]:
    """What an entry annotates: segments by their number, instances by what joins them."""
    if "pan_seg_file_name" in entry:
        return {one["id"]: one for one in entry["segments_info"] if not one.get("iscrowd")}
    return {key: one for some in reversed(frames_of(entry)) for key, one in some.items() if one.get("segmentation")}


class InstanceTracks:
    """Masks bool (N, H, W) of each frame, a row for each of ``keys``; blank where an instance is not annotated."""

    def __init__(
        self, frames: list[dict[Any, dict[str, Any]]], keys: list[Any], size: tuple[int, int], where: str
    ) -> None:
        self.frames, self.keys, self.size, self.where = frames, keys, size, where

    def __getitem__(self, frame: int) -> Tensor:
        shown = {key: one["segmentation"] for key, one in self.frames[frame].items() if one.get("segmentation")}
        out = torch.zeros(len(self.keys), *self.size, dtype=torch.bool)
        if shown:
            rows = [self.keys.index(key) for key in shown]
            out[rows] = Masks(list(shown.values()), self.size, self.where)[0]
        return out
