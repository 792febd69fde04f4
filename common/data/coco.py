"""Still images in the formats of COCO as videos of one frame, with instances or panoptic segments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.benchmarks.submissions.vps import read_segment_ids
from common.errors import InputError
from common.files import read_json
from common.video import Prompt, Video, read_image, rle_decode
from common.video.task_views import as_panoptic


class COCOImages(ABC):
    """Images of a COCO JSON file, each a video of one frame, without crowds and images without targets.

    Args:
        images: folder of the images.
        annotations: the JSON file.

    Raises:
        InputError: on access, the JSON file is missing, damaged or lacks a part.
    """

    def __init__(self, images: str | Path, annotations: str | Path) -> None:
        self.images, self.annotations = Path(images), Path(annotations)

    @cached_property
    def content(self) -> dict[str, Any]:
        """Content of the JSON file."""
        content = read_json(self.annotations, "annotation file")
        for part in ("images", "annotations", "categories"):
            if not content.get(part):
                raise InputError(f"{self.annotations}: without {part!r}; give a file of instances or panoptic segments")
        return content

    @cached_property
    def category_index(self) -> dict[int, int]:
        """Index in the vocabulary of each category id."""
        ids = sorted(category["id"] for category in self.content["categories"])
        return {id: index for index, id in enumerate(ids)}

    @cached_property
    def categories(self) -> list[dict[str, Any]]:
        """Categories, by ascending id."""
        return sorted(self.content["categories"], key=lambda category: category["id"])

    @cached_property
    @abstractmethod
    def annotations_by_image(self) -> dict[int, Any]:
        """Annotation of each image that has a target, by image id."""

    @cached_property
    def annotated_images(self) -> list[dict[str, Any]]:
        """Images that have a target."""
        images = [image for image in self.content["images"] if image["id"] in self.annotations_by_image]
        if not images:
            raise InputError(f"{self.annotations}: no image in it has a target; unpack it again")
        return images

    def __len__(self) -> int:
        return len(self.annotated_images)

    @abstractmethod
    def __getitem__(self, index: int) -> Video: ...


class COCOInstances(COCOImages):
    """Instances with polygons or RLE, e.g. COCO and LVIS, and optionally a list ``expressions`` per annotation.

    Args:
        images: folder of the images.
        annotations: JSON file, e.g. ``instances_train2017.json``.
    """

    @cached_property
    def annotations_by_image(self) -> dict[int, list[dict[str, Any]]]:
        """Instances of each image, by image id."""
        instances: dict[int, list[dict[str, Any]]] = {}
        for instance in self.content["annotations"]:
            if not instance.get("iscrowd") and instance.get("segmentation"):
                instances.setdefault(instance["image_id"], []).append(instance)
        return instances

    def __getitem__(self, index: int) -> Video:
        image, vocabulary = self.annotated_images[index], tuple(category["name"] for category in self.categories)
        instances = self.annotations_by_image[image["id"]]
        where = f"{self.annotations}, image {image['id']}"
        texts = {target: one.get("expressions") for target, one in enumerate(instances, start=1)}
        return Video(
            id=Path(image["file_name"]).stem,
            frames=ImageFiles([self.images / image["file_name"]]),
            prompts=(Prompt(1, vocabulary=vocabulary),),
            targets=tuple(range(1, len(instances) + 1)),
            truth=Masks([one["segmentation"] for one in instances], (image["height"], image["width"]), where),
            vocabulary=vocabulary,
            categories={
                target: self.category_index[one["category_id"]] for target, one in enumerate(instances, start=1)
            },
            expressions={target: tuple(expressions) for target, expressions in texts.items() if expressions},
        )


class COCOPanoptic(COCOImages):
    """Things and stuff with one segment map per image.

    Args:
        images: folder of the images.
        annotations: JSON file, e.g. ``panoptic_train2017.json``.
        maps: folder of the segment maps, RGB PNGs with segment id R + 256 G + 65536 B.
    """

    def __init__(self, images: str | Path, annotations: str | Path, maps: str | Path) -> None:
        super().__init__(images, annotations)
        self.maps = Path(maps)

    @cached_property
    def annotations_by_image(self) -> dict[int, dict[str, Any]]:
        """Annotation of each image, by image id."""
        return {
            one["image_id"]: one
            for one in self.content["annotations"]
            if any(not segment.get("iscrowd") for segment in one["segments_info"])
        }

    def __getitem__(self, index: int) -> Video:
        image = self.annotated_images[index]
        annotation = self.annotations_by_image[image["id"]]
        segments = [segment for segment in annotation["segments_info"] if not segment.get("iscrowd")]
        return as_panoptic(
            Video(
                id=Path(image["file_name"]).stem,
                frames=ImageFiles([self.images / image["file_name"]]),
                targets=tuple(range(1, len(segments) + 1)),
                truth=SegmentMap(self.maps / annotation["file_name"], [segment["id"] for segment in segments]),
                vocabulary=tuple(category["name"] for category in self.categories),
                stuff=tuple(category["name"] for category in self.categories if not category["isthing"]),
                categories={
                    target: self.category_index[one["category_id"]] for target, one in enumerate(segments, start=1)
                },
            )
        )


class ImageFiles:
    """Frames of a video from a list of image files.

    Args:
        files: the files, in order.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, frame: int) -> Tensor:
        return read_image(self.files[frame])

    def __iter__(self) -> Iterator[Tensor]:
        return map(read_image, self.files)


class Masks:
    """Masks bool (N, H, W) of one image from polygons or RLE, decoded on access.

    Args:
        segmentations: lists of polygons, or RLE with compressed counts (text or bytes) or a list of runs.
        size: (H, W).
        where: location, for error messages.
    """

    def __init__(self, segmentations: list[Any], size: tuple[int, int], where: str) -> None:
        self.segmentations, self.size, self.where = segmentations, size, where

    def __getitem__(self, frame: int) -> Tensor:
        from pycocotools import mask as coco

        rles = []
        try:
            for segmentation in self.segmentations:
                if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str | bytes):
                    counts = segmentation["counts"]
                    rles.append(segmentation | {"counts": counts if isinstance(counts, str) else counts.decode()})
                    continue
                compressed = coco.frPyObjects(segmentation, *self.size)
                # Several polygons are the parts of one instance.
                merged = coco.merge(compressed) if isinstance(compressed, list) else compressed
                rles.append({"size": list(merged["size"]), "counts": merged["counts"].decode()})
            return rle_decode(rles)
        except (InputError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self.where}: a mask is damaged ({error}); unpack the annotations again") from error


class SegmentMap:
    """Masks bool (N, H, W) of segments of one image, read on access.

    Args:
        path: file of the segment map.
        segments: ids of the N segments.
    """

    def __init__(self, path: Path, segments: list[int]) -> None:
        self.path, self.segments = path, segments

    def __getitem__(self, frame: int) -> Tensor:
        return read_segment_ids(self.path) == torch.tensor(self.segments)[:, None, None]
