"""Data sets of detectron2's catalogue, with a stand-in for the two parts of detectron2 that are read."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from common.benchmarks.tasks.vps import write_segment_ids
from common.data import LabelledClips
from common.data.detectron import CatalogueSet
from common.errors import InputError
from common.video import rle_encode
from common.video.task_views import as_instances, as_panoptic

SIZE = (20, 30)
POLYGON = [[2.0, 3.0, 10.0, 3.0, 10.0, 9.0, 2.0, 9.0]]
COLUMN = {"size": [20, 30], "counts": [5, 10, 585]}  # rows 5 to 14 of the first column


def square() -> torch.Tensor:
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[3:9, 2:10] = True
    return mask


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Puts a set into the stand-in's catalogue; the images ``<n>.png`` are there."""
    known: dict[str, tuple[list[dict], dict]] = {}

    def get(name: str) -> list[dict]:
        return known[name][0]

    data: Any = ModuleType("detectron2.data")
    data.DatasetCatalog = SimpleNamespace(list=lambda: list(known), get=get)
    data.MetadataCatalog = SimpleNamespace(get=lambda name: SimpleNamespace(get=known[name][1].get))
    package: Any = ModuleType("detectron2")
    package.data = data
    monkeypatch.setitem(sys.modules, "detectron2", package)
    monkeypatch.setitem(sys.modules, "detectron2.data", data)
    for number in range(2):
        Image.new("RGB", SIZE[::-1], (90 + number, 0, 0)).save(tmp_path / f"{number}.png")

    def add(name: str, entries: list[dict], **metadata: Any) -> CatalogueSet:
        known[name] = (entries, metadata)
        return CatalogueSet(name)

    return add


def entry(tmp_path: Path, **more: Any) -> dict:
    return {"file_name": str(tmp_path / "0.png"), "height": SIZE[0], "width": SIZE[1], "image_id": 4} | more


def test_instances(register, tmp_path):
    packed = rle_encode(square()[None])[0]
    said = [
        {"category_id": 1, "segmentation": POLYGON, "bbox": [2, 3, 8, 6]},
        {"category_id": 0, "segmentation": COLUMN, "iscrowd": 0},
        {"category_id": 0, "segmentation": COLUMN, "iscrowd": 1},
        {"category_id": 0, "segmentation": packed | {"counts": packed["counts"].encode()}},
    ]
    found = register(
        "mine",
        [entry(tmp_path, annotations=said), entry(tmp_path, annotations=said[2:3])],
        thing_classes=["sky", "cat"],
    )
    assert len(found) == 1  # the other has a crowd only
    video = found[0]
    assert (video.id, len(video), video.targets) == ("0", 1, (1, 2, 3))
    assert video.vocabulary == video.prompts[0].vocabulary == ("sky", "cat")
    assert video.categories == {1: 1, 2: 0, 3: 0}
    masks = video.truth[0]
    column = torch.zeros(SIZE, dtype=torch.bool)
    column[5:15, 0] = True
    assert torch.equal(masks, torch.stack([square(), column, square()]))
    assert [frame.shape for frame in video] == [(*SIZE, 3)]
    item = LabelledClips(found, frames=2, size=(16, 16), length=1, task="VIS")[0]
    assert item.masks.shape[:2] == (2, 3)


@pytest.mark.parametrize("shared", [True, False])
def test_panoptic_segments(register, tmp_path, shared):
    """COCO's both ways: one list of names for things and stuff, or a list for each."""
    ids = torch.zeros(SIZE, dtype=torch.int64)
    ids[:10], ids[10:15, :5], ids[18:] = 300, 70_000, 9
    write_segment_ids(tmp_path / "maps" / "0.png", ids)
    sky = 2 if shared else 0
    segments = [
        {"id": 70_000, "category_id": 1, "isthing": True},
        {"id": 300, "category_id": sky, "isthing": False},
        {"id": 9, "category_id": 1, "iscrowd": 1, "isthing": True},
    ]
    names = ["dog", "cat", "sky"]
    metadata: dict[str, Any] = dict(thing_classes=names[:2], stuff_classes=names[2:])
    if shared:
        metadata = dict(thing_classes=names, stuff_classes=names, stuff_dataset_id_to_contiguous_id={187: 2})
    maps = {"pan_seg_file_name": str(tmp_path / "maps" / "0.png"), "segments_info": segments}
    video = register("panoptic", [entry(tmp_path, **maps)], **metadata)[0]
    assert (video.vocabulary, video.stuff) == (("dog", "cat", "sky"), ("sky",))
    assert video.categories == {1: 1, 2: 2}
    assert torch.equal(video.truth[0], torch.stack([ids == 70_000, ids == 300]))
    assert video.prompts[0].stuff == as_panoptic(video).prompts[0].stuff == ("sky",)
    assert as_instances(video).targets == (1,)


def test_a_video(register, tmp_path):
    """Tracks are joined by their id, also where one shows from the second frame on, or in other order."""
    first = [{"id": 8, "category_id": 0, "segmentation": POLYGON}]
    second = [{"id": 5, "category_id": 1, "segmentation": COLUMN}, {"id": 8, "category_id": 0, "segmentation": None}]
    files = [str(tmp_path / f"{number}.png") for number in range(2)]
    said = {"file_names": files, "height": 20, "width": 30, "length": 2, "annotations": [first, second]}
    video = register("ytvis", [said], thing_classes=["cat", "dog"])[0]
    assert (video.id, video.names, len(video)) == (tmp_path.name, ["0", "1"], 2)
    assert [int(frame[0, 0, 0]) for frame in video] == [90, 91]
    by_category = {category: target for target, category in video.categories.items()}
    assert sorted(by_category) == [0, 1]
    cat, dog = (video.targets.index(by_category[place]) for place in range(2))
    masks = [video.truth[frame] for frame in range(2)]
    assert torch.equal(masks[0][cat], square())
    assert masks[1][dog].sum() == 10
    assert not masks[0][dog].any()
    assert not masks[1][cat].any()


def test_without_detectron2(monkeypatch):
    monkeypatch.setitem(sys.modules, "detectron2", None)
    monkeypatch.delitem(sys.modules, "detectron2.data", raising=False)
    with pytest.raises(InputError, match=r"coco_2017_train: .*pip install .*detectron2") as error:
        len(CatalogueSet("coco_2017_train"))
    assert "\n" not in str(error.value)


def test_what_cannot_be_used(register, tmp_path):
    one = {"category_id": 3, "segmentation": POLYGON}
    with pytest.raises(InputError, match="other: not in detectron2's catalogue"):
        len(CatalogueSet("other"))
    with pytest.raises(InputError, match="no module of this name"):
        len(CatalogueSet("other", register="no module of this name"))
    with pytest.raises(InputError, match="category 3 of 1 names"):
        register("a", [entry(tmp_path, annotations=[one])], thing_classes=["cat"])[0]
    with pytest.raises(InputError, match="has no thing_classes"):
        register("b", [entry(tmp_path, annotations=[one])])[0]
    with pytest.raises(InputError, match="has a target"):
        len(register("c", [entry(tmp_path)], thing_classes=["cat"]))
    with pytest.raises(InputError, match=r"d, entry 0: .*category_id"):
        register("d", [entry(tmp_path, annotations=[{"segmentation": POLYGON}])], thing_classes=["cat"])[0]
