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

MAX_COORDINATE = 1_000_000


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

    def size(self, image: dict[str, Any]) -> tuple[int, int]:
        """Return (H, W) of an image: that of the JSON file, or of the image where the file has none.

        Args:
            image: element of ``images``.

        Raises:
            InputError: the JSON file has another value than a number.
        """
        if "height" not in image and "width" not in image:
            height, width = read_image(self.images / image["file_name"]).shape[:2]
            return height, width
        sides: list[Any] = [image.get("height"), image.get("width")]
        if [type(side) for side in sides] != [int, int] or min(sides) < 1:
            raise InputError(f"{self.annotations}, image {image['id']}: height and width are {sides}; give both")
        return sides[0], sides[1]

    def category(self, id: int, where: str) -> int:
        """Return the index in the vocabulary of a category id.

        Args:
            id: ``category_id`` of an annotation.
            where: location, for the error message.

        Raises:
            InputError: the category is not listed.
        """
        if id not in self.category_index:
            raise InputError(f"{where}: category_id {id!r} is not among the file's categories; add it or leave it out")
        return self.category_index[id]

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
            if not instance.get("iscrowd") and instance.get("segmentation") not in (None, [], [[]]):
                instances.setdefault(instance["image_id"], []).append(instance)
        return instances

    def __getitem__(self, index: int) -> Video:
        image, vocabulary = self.annotated_images[index], tuple(category["name"] for category in self.categories)
        instances = self.annotations_by_image[image["id"]]
        where = f"{self.annotations}, image {image['id']}"
        texts = {target: one.get("expressions") for target, one in enumerate(instances, start=1)}
        return Video(
            id=Path(image["file_name"]).stem,
            frames=ImageFiles([self.images / image["file_name"]], size := self.size(image)),
            prompts=(Prompt(1, vocabulary=vocabulary),),
            targets=tuple(range(1, len(instances) + 1)),
            truth=Masks([one["segmentation"] for one in instances], size, where),
            vocabulary=vocabulary,
            categories={
                target: self.category(one["category_id"], where) for target, one in enumerate(instances, start=1)
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
                frames=ImageFiles([self.images / image["file_name"]], size := self.size(image)),
                targets=tuple(range(1, len(segments) + 1)),
                truth=SegmentMap(self.maps / annotation["file_name"], [segment["id"] for segment in segments], size),
                vocabulary=tuple(category["name"] for category in self.categories),
                stuff=tuple(category["name"] for category in self.categories if not category["isthing"]),
                categories={
                    target: self.category(one["category_id"], f"{self.annotations}, image {image['id']}")
                    for target, one in enumerate(segments, start=1)
                },
            )
        )


class ImageFiles:
    """Frames of a video from a list of image files.

    Args:
        files: the files, in order.
        size: (H, W) in the annotation file, if known.

    Raises:
        InputError: on reading, an image has another size, e.g. because its EXIF orientation turns it.
    """

    def __init__(self, files: Sequence[Path], size: tuple[int, int] | None = None) -> None:
        self.files, self.size = files, size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, frame: int) -> Tensor:
        image = read_image(self.files[frame])
        height, width = image.shape[:2]
        if self.size not in (None, (height, width)):
            turned = "; its EXIF orientation turns it" if self.size == (width, height) else ""
            raise InputError(
                f"{self.files[frame]}: the image is {height}x{width} but its annotations are for {self.size[0]}x"
                f"{self.size[1]} (height x width){turned}; save both in one orientation and size"
            )
        return image

    def __iter__(self) -> Iterator[Tensor]:
        return (self[frame] for frame in range(len(self)))


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
                _check_coordinates(segmentation)
                compressed = coco.frPyObjects(segmentation, *self.size)
                # Several polygons are the parts of one instance.
                merged = coco.merge(compressed) if isinstance(compressed, list) else compressed
                rles.append({"size": list(merged["size"]), "counts": merged["counts"].decode()})
            masks = rle_decode(rles)
            if tuple(masks.shape[1:]) != self.size:
                raise InputError(f"its size is {tuple(masks.shape[1:])}, that of the image {self.size} (height, width)")
            return masks
        except (InputError, AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise InputError(f"{self.where}: a mask is damaged ({error}); unpack the annotations again") from error


def _check_coordinates(polygons: Any) -> None:
    """Refuse polygons with which pycocotools does not return."""
    for polygon in polygons if isinstance(polygons, list) else ():
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("a polygon must be a list of x, y of at least three points")
        if not all(isinstance(value, int | float) and abs(value) <= MAX_COORDINATE for value in polygon):
            raise ValueError(f"a polygon has a coordinate that is no number up to {MAX_COORDINATE}")


class SegmentMap:
    """Masks bool (N, H, W) of segments of one image, read on access.

    Args:
        path: file of the segment map.
        segments: ids of the N segments.
        size: (H, W) of the image.

    Raises:
        InputError: on reading, the map has another size.
    """

    def __init__(self, path: Path, segments: list[int], size: tuple[int, int]) -> None:
        self.path, self.segments, self.size = path, segments, size

    def __getitem__(self, frame: int) -> Tensor:
        ids = read_segment_ids(self.path)
        if tuple(ids.shape) != self.size:
            raise InputError(f"{self.path}: the map is {tuple(ids.shape)} but its image is {self.size} (height, width)")
        return ids == torch.tensor(self.segments)[:, None, None]
