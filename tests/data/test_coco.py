"""Still images in COCO's layouts, and clips made of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from common.benchmarks.tasks.vps import write_segment_ids
from common.data import LabelledClips, ScaleJitter
from common.data.coco import COCOInstances, COCOPanoptic
from common.errors import InputError

SIZE = (20, 30)
# a square as a polygon, as runs down the columns, and a crowd
POLYGON = [[2.0, 3.0, 10.0, 3.0, 10.0, 9.0, 2.0, 9.0]]
RUNS = {"size": [20, 30], "counts": [5, 10, 585]}  # rows 5 to 14 of the first column
CATEGORIES = [{"id": 90, "name": "cat", "isthing": 1}, {"id": 4, "name": "sky", "isthing": 0}]


def write_images(root: Path) -> None:
    (root / "images").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", SIZE[::-1], (90, 0, 0)).save(root / "images" / f"{name}.png")


def image(number: int, name: str) -> dict:
    return {"id": number, "file_name": f"{name}.png", "height": SIZE[0], "width": SIZE[1]}


@pytest.fixture
def instances(tmp_path: Path) -> COCOInstances:
    write_images(tmp_path)
    annotations = [
        {"image_id": 7, "category_id": 90, "segmentation": POLYGON, "iscrowd": 0, "expressions": ["left cat", "a cat"]},
        {"image_id": 7, "category_id": 4, "segmentation": RUNS, "iscrowd": 0},
        {"image_id": 7, "category_id": 4, "segmentation": RUNS, "iscrowd": 1},
        {"image_id": 8, "category_id": 4, "segmentation": RUNS, "iscrowd": 1},
    ]
    said = {"images": [image(7, "a"), image(8, "b")], "annotations": annotations, "categories": CATEGORIES}
    (tmp_path / "instances.json").write_text(json.dumps(said))
    return COCOInstances(tmp_path / "images", tmp_path / "instances.json")


def test_instances(instances: COCOInstances) -> None:
    assert len(instances) == 1  # the other has a crowd only
    video = instances[0]
    assert (video.id, len(video), video.targets) == ("a", 1, (1, 2))
    assert video.vocabulary == video.prompts[0].vocabulary == ("sky", "cat")
    assert video.categories == {1: 1, 2: 0}
    assert video.expressions == {1: ("left cat", "a cat")}
    masks = video.truth[0]  # type: ignore[index]
    square = torch.zeros(SIZE, dtype=torch.bool)
    square[3:9, 2:10] = True
    column = torch.zeros(SIZE, dtype=torch.bool)
    column[5:15, 0] = True
    assert torch.equal(masks, torch.stack([square, column]))
    assert video[0].shape == (*SIZE, 3)


def test_panoptic(tmp_path: Path) -> None:
    write_images(tmp_path)
    ids = torch.zeros(SIZE, dtype=torch.int64)
    ids[:10], ids[10:15, :5], ids[18:] = 300, 70_000, 9
    write_segment_ids(tmp_path / "maps" / "a.png", ids)
    segments = [
        {"id": 70_000, "category_id": 90},
        {"id": 300, "category_id": 4},
        {"id": 9, "category_id": 90, "iscrowd": 1},
    ]
    said = {
        "images": [image(7, "a")],
        "annotations": [{"image_id": 7, "file_name": "a.png", "segments_info": segments}],
        "categories": CATEGORIES,
    }
    (tmp_path / "panoptic.json").write_text(json.dumps(said))
    video = COCOPanoptic(tmp_path / "images", tmp_path / "panoptic.json", tmp_path / "maps")[0]
    assert (video.prompts[0].vocabulary, video.prompts[0].stuff) == (("sky", "cat"), ("sky",))
    assert video.categories == {1: 1, 2: 0}
    assert torch.equal(video.truth[0], torch.stack([ids == 70_000, ids == 300]))  # type: ignore[index]


def test_a_still_becomes_a_clip_of_different_views(instances: COCOInstances) -> None:
    jitter = ScaleJitter(scale=(0.7, 1.5))
    item = LabelledClips(instances, frames=3, size=(24, 24), task="VIS", window=2, jitter=jitter)[0]
    assert item.frames.shape == (3, 3, 24, 24)
    assert not torch.equal(item.frames[0], item.frames[1])
    assert item.vocabulary == ("sky", "cat")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda said: said.pop("categories"), "without 'categories'"),
        (lambda said: said["annotations"].clear(), "without 'annotations'"),
        (lambda said: [one.update(iscrowd=1) for one in said["annotations"]], "no image in it has a target"),
        (lambda said: said["annotations"][1]["segmentation"].update(counts=[4]), "image 7: a mask is damaged"),
        (lambda said: said["annotations"][1]["segmentation"].update(counts="abc"), "image 7: a mask is damaged"),
    ],
)
def test_damaged(instances: COCOInstances, change, word: str) -> None:
    said = json.loads(instances.annotations.read_text())
    change(said)
    instances.annotations.write_text(json.dumps(said))
    with pytest.raises(InputError, match=word):
        instances[0].truth[0]  # type: ignore[index]


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: no such annotation file"):
        len(COCOInstances(tmp_path, tmp_path / "none.json"))


def with_changes(instances: COCOInstances, image: dict | None = None, annotation: dict | None = None) -> COCOInstances:
    """The data set with changes to the first image and annotation."""
    content = json.loads(instances.annotations.read_text())
    content["images"][0] |= image or {}
    content["annotations"][0] |= annotation or {}
    instances.annotations.write_text(json.dumps(content))
    return COCOInstances(instances.images, instances.annotations)


def test_image_turned_by_its_exif_orientation_is_named(instances: COCOInstances) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new("RGB", SIZE[::-1], (90, 0, 0)).save(instances.images / "a.png", exif=exif)
    with pytest.raises(InputError, match=r"a.png: the image is 30x20 but .* 20x30 .*EXIF"):
        instances[0][0]


def test_size_is_that_of_the_image_where_the_file_has_none(instances: COCOInstances) -> None:
    content = json.loads(instances.annotations.read_text())
    del content["images"][0]["height"], content["images"][0]["width"]
    instances.annotations.write_text(json.dumps(content))
    assert COCOInstances(instances.images, instances.annotations)[0].truth[0].shape == (2, *SIZE)  # type: ignore[index]


@pytest.mark.parametrize("height", [None, 0, "20", 1.5])
def test_height_that_is_none(instances: COCOInstances, height: object) -> None:
    with pytest.raises(InputError, match="image 7: height and width are"):
        with_changes(instances, image={"height": height})[0]


def test_category_that_is_not_listed_is_named(instances: COCOInstances) -> None:
    with pytest.raises(InputError, match="category_id 5 is not among"):
        with_changes(instances, annotation={"category_id": 5})[0]


def test_run_lengths_of_another_size(instances: COCOInstances) -> None:
    runs = {"size": [30, 20], "counts": [5, 10, 585]}
    with pytest.raises(InputError, match="image 7: a mask is damaged"):
        with_changes(instances, annotation={"segmentation": runs})[0].truth[0]  # type: ignore[index]


@pytest.mark.parametrize("value", [None, float("nan"), 1e9, -1e308, float("inf"), "3"])
def test_coordinate_with_which_pycocotools_does_not_return(instances: COCOInstances, value: object) -> None:
    polygon = [[1, 1, 10, value, 10, 10]]
    with pytest.raises(InputError, match="a mask is damaged"):
        with_changes(instances, annotation={"segmentation": polygon})[0].truth[0]  # type: ignore[index]


def test_annotation_without_a_polygon_is_left_out(instances: COCOInstances) -> None:
    assert with_changes(instances, annotation={"segmentation": [[]]})[0].targets == (1,)
