"""Still images in the layouts of COCO, as videos of one frame: instances and panoptic segments to train on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.files import read_json
from common.benchmarks.submissions.vps import read_segment_ids
from common.errors import InputError
from common.video import Prompt, Video, read_image, rle_decode
from common.video.task_views import as_panoptic


class COCOImages(ABC):
    """Images of a JSON of COCO, each a video of one frame; those without a target are left out, and so are crowds.

    Args:
        images: folder of the images.
        annotations: the JSON.

    Raises:
        InputError: on use: the JSON is missing, damaged or lacks a part.
    """

    def __init__(self, images: str | Path, annotations: str | Path) -> None:
        self.images, self.annotations = Path(images), Path(annotations)

    @cached_property
    def said(self) -> dict[str, Any]:
        """Content of the JSON."""
        said = read_json(self.annotations, "annotation file")
        for part in ("images", "annotations", "categories"):
            if not said.get(part):
                raise InputError(f"{self.annotations}: without {part!r}; give a file of instances or panoptic segments")
        return said

    @cached_property
    def places(self) -> dict[int, int]:
        """Place in the vocabulary of each category's number."""
        numbers = sorted(category["id"] for category in self.said["categories"])
        return {number: place for place, number in enumerate(numbers)}

    @cached_property
    def named(self) -> list[dict[str, Any]]:
        """The categories in the order of their numbers."""
        return sorted(self.said["categories"], key=lambda category: category["id"])

    @cached_property
    @abstractmethod
    def of_image(self) -> dict[int, Any]:
        """What is annotated of each image that has a target, by the image's number."""

    @cached_property
    def kept(self) -> list[dict[str, Any]]:
        """The images that have a target."""
        kept = [image for image in self.said["images"] if image["id"] in self.of_image]
        if not kept:
            raise InputError(f"{self.annotations}: no image in it has a target; unpack it again")
        return kept

    def __len__(self) -> int:
        return len(self.kept)

    @abstractmethod
    def __getitem__(self, index: int) -> Video: ...


class COCOInstances(COCOImages):
    """Instances with masks as polygons or RLE: COCO, LVIS. ``expressions`` of an annotation, a list, are its texts.

    Args:
        images: folder of the images.
        annotations: e.g. ``instances_train2017.json``.
    """

    @cached_property
    def of_image(self) -> dict[int, list[dict[str, Any]]]:
        """The instances of each image."""
        found: dict[int, list[dict[str, Any]]] = {}
        for one in self.said["annotations"]:
            if not one.get("iscrowd") and one.get("segmentation"):
                found.setdefault(one["image_id"], []).append(one)
        return found

    def __getitem__(self, index: int) -> Video:
        image, vocabulary = self.kept[index], tuple(category["name"] for category in self.named)
        instances = self.of_image[image["id"]]
        where = f"{self.annotations}, image {image['id']}"
        texts = {target: one.get("expressions") for target, one in enumerate(instances, start=1)}
        return Video(
            id=Path(image["file_name"]).stem,
            frames=ImageFiles([self.images / image["file_name"]]),
            prompts=(Prompt(1, vocabulary=vocabulary),),
            targets=tuple(range(1, len(instances) + 1)),
            truth=Masks([one["segmentation"] for one in instances], (image["height"], image["width"]), where),
            vocabulary=vocabulary,
            categories={target: self.places[one["category_id"]] for target, one in enumerate(instances, start=1)},
            expressions={target: tuple(said) for target, said in texts.items() if said},
        )


class COCOPanoptic(COCOImages):
    """Things and stuff, a map of segments for each image; stuff is what ``isthing`` says is none.

    Args:
        images: folder of the images.
        annotations: e.g. ``panoptic_train2017.json``.
        maps: folder of the maps, RGB PNGs with segment R + 256 G + 65536 B.
    """

    def __init__(self, images: str | Path, annotations: str | Path, maps: str | Path) -> None:
        super().__init__(images, annotations)
        self.maps = Path(maps)

    @cached_property
    def of_image(self) -> dict[int, dict[str, Any]]:
        """The annotation of each image."""
        return {
            one["image_id"]: one
            for one in self.said["annotations"]
            if any(not segment.get("iscrowd") for segment in one["segments_info"])
        }

    def __getitem__(self, index: int) -> Video:
        image = self.kept[index]
        said = self.of_image[image["id"]]
        segments = [segment for segment in said["segments_info"] if not segment.get("iscrowd")]
        return as_panoptic(
            Video(
                id=Path(image["file_name"]).stem,
                frames=ImageFiles([self.images / image["file_name"]]),
                targets=tuple(range(1, len(segments) + 1)),
                truth=SegmentMap(self.maps / said["file_name"], [segment["id"] for segment in segments]),
                vocabulary=tuple(category["name"] for category in self.named),
                stuff=tuple(category["name"] for category in self.named if not category["isthing"]),
                categories={target: self.places[one["category_id"]] for target, one in enumerate(segments, start=1)},
            )
        )


class ImageFiles(Sequence[Tensor]):
    """Image files as the frames of a video; a still is one."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, frame: Any) -> Any:
        return read_image(self.files[frame])


class Masks:
    """Masks bool (N, H, W) of one image from polygons or RLE, decoded when asked for.

    Args:
        segmentations: lists of polygons, or RLE with counts compressed (text or bytes) or as a list.
        size: (H, W).
        where: for messages.
    """

    def __init__(self, segmentations: list[Any], size: tuple[int, int], where: str) -> None:
        self.segmentations, self.size, self.where = segmentations, size, where

    def __getitem__(self, frame: int) -> Tensor:
        from pycocotools import mask as coco

        rles = []
        try:
            for one in self.segmentations:
                if isinstance(one, dict) and isinstance(one["counts"], str | bytes):
                    counts = one["counts"]
                    rles.append(one | {"counts": counts if isinstance(counts, str) else counts.decode()})
                    continue
                packed = coco.frPyObjects(one, *self.size)
                merged = coco.merge(packed) if isinstance(packed, list) else packed
                rles.append({"size": list(merged["size"]), "counts": merged["counts"].decode()})
            return rle_decode(rles)
        except (InputError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self.where}: a mask is damaged ({error}); unpack the annotations again") from error


class SegmentMap:
    """Masks bool (N, H, W) of some segments of one image, read when asked for."""

    def __init__(self, path: Path, segments: list[int]) -> None:
        self.path, self.segments = path, segments

    def __getitem__(self, frame: int) -> Tensor:
        return read_segment_ids(self.path) == torch.tensor(self.segments)[:, None, None]
