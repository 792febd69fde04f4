"""Label maps, RLE and boxes: round trips, and files that are not what they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from torch import Tensor

from common.errors import InputError
from common.video import (
    FrameMasks,
    boxes_from_masks,
    check_annotation,
    labels_from_masks,
    masks_from_labels,
    palette,
    read_label_map,
    rle_decode,
    rle_encode,
    write_label_map,
)
from common.video.masks import without_overlap

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools

mask_stacks = arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=40)).map(torch.from_numpy)
label_maps = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40)).map(torch.from_numpy)


@given(mask_stacks)
def test_rle_round_trip(masks: Tensor) -> None:
    rles = rle_encode(masks)
    assert all(isinstance(rle["counts"], str) and rle["size"] == list(masks.shape[1:]) for rle in rles)
    assert torch.equal(rle_decode(rles), masks)


@given(mask_stacks, st.data())
def test_damaged_rle_is_refused(masks: Tensor, data: st.DataObject) -> None:
    (rle,) = rle_encode(masks[:1])
    short = rle["counts"][: data.draw(st.integers(0, len(rle["counts"]) - 1))]
    with pytest.raises(InputError, match="RLE 0"):
        rle_decode([{**rle, "counts": short}])


def test_rle_by_hand() -> None:
    mask = torch.tensor([[0, 1], [1, 1]], dtype=torch.bool)[None]  # column by column: one 0, three 1
    assert rle_encode(mask) == [{"size": [2, 2], "counts": "13"}]
    assert rle_decode([]).shape == (0, 0, 0)


@pytest.mark.parametrize("counts", ["", "3", "zzzz", "é", "P", [1, 3], None])
def test_counts_that_do_not_fill_the_size(counts: object, refuses) -> None:
    with refuses("RLE 1", [2, 2]):
        rle_decode([{"size": [2, 2], "counts": "13"}, {"size": [2, 2], "counts": counts}])


def test_rle_of_another_size(refuses) -> None:
    with refuses("RLE 1", [2, 2], [1, 4]):
        rle_decode([{"size": [2, 2], "counts": "13"}, {"size": [1, 4], "counts": "13"}])


def test_palette_is_that_of_pascal_voc() -> None:
    colours = palette()
    assert colours.shape == (256, 3)
    expected = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 8: (64, 0, 0), 255: (224, 224, 192)}
    assert {label: tuple(colours[label].tolist()) for label in expected} == expected


@settings(max_examples=30, deadline=None)
@given(labels=label_maps)
def test_label_map_file_round_trip(tmp_path_factory: pytest.TempPathFactory, labels: Tensor) -> None:
    path = tmp_path_factory.getbasetemp() / "round" / "trip" / "00000.png"
    write_label_map(path, labels)
    assert torch.equal(read_label_map(path), labels)
    with Image.open(path) as image:
        assert image.mode == "P"
        assert np.array_equal(np.array(image.convert("RGB")), palette()[labels.long()].numpy())
    assert [file.name for file in path.parent.iterdir()] == ["00000.png"]


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "00000.png"
    write_label_map(path, torch.ones(3, 4, dtype=torch.uint8))

    def disk_full(self: Image.Image, file: Path, *_: object, **__: object) -> None:
        Path(file).write_bytes(b"half a file")
        raise OSError("no space left on device")

    monkeypatch.setattr(Image.Image, "save", disk_full)
    with pytest.raises(OSError, match="no space"):
        write_label_map(path, torch.zeros(3, 4, dtype=torch.uint8))
    assert read_label_map(path).sum() == 12
    assert list(tmp_path.iterdir()) == [path]


def test_grey_and_1_bit_label_maps(tmp_path: Path) -> None:
    grey = np.array([[0, 1, 255]], np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert read_label_map(tmp_path / "grey.png").tolist() == grey.tolist()
    Image.fromarray(grey > 0).save(tmp_path / "bit.png")
    assert read_label_map(tmp_path / "bit.png").tolist() == [[0, 1, 1]]


def test_wrong_label_maps_are_named(tmp_path: Path, refuses) -> None:
    for name, pixels, words in (
        ("rgb.png", np.zeros((4, 4, 3), np.uint8), ("RGB image, not a palette image",)),
        ("rgba.png", np.zeros((4, 4, 4), np.uint8), ("RGB image, not a palette image",)),
        ("deep.png", np.zeros((4, 4), np.uint16), ("I;16",)),
    ):
        Image.fromarray(pixels).save(tmp_path / name)
        with refuses(tmp_path / name, *words):
            read_label_map(tmp_path / name)
    with refuses(tmp_path / "gone.png", "missing"):
        read_label_map(tmp_path / "gone.png")
    write_label_map(tmp_path / "cut.png", torch.arange(200).reshape(10, 20).byte())
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:-40])
    with refuses(tmp_path / "cut.png", "corrupt"):
        read_label_map(tmp_path / "cut.png")


def test_annotation_is_checked(refuses) -> None:
    labels = torch.zeros(33, 47, dtype=torch.uint8)
    with refuses("a/00000.png", "33x47", "33x48"):
        check_annotation(labels, (33, 48), "a/00000.png")
    with refuses("a/00000.png", "no object"):
        check_annotation(labels, (33, 47), "a/00000.png")
    labels[0] = 255
    with refuses("a/00000.png", "no object"):
        check_annotation(labels, (33, 47), Path("a/00000.png"))
    labels[1, 1] = 254
    check_annotation(labels, labels.shape, "a/00000.png")


@given(label_maps)
def test_labels_and_masks_are_inverse(labels: Tensor) -> None:
    labels[labels == 255] = 0
    targets = [int(label) for label in labels.unique() if label]
    masks = masks_from_labels(labels, targets)
    assert masks.dtype == torch.bool
    assert torch.equal(labels_from_masks(masks, targets), labels)
    answer = FrameMasks(0, tuple(targets), masks, torch.ones(len(targets)))
    assert torch.equal(answer.label_map(), labels)


def test_void_and_absent_targets() -> None:
    labels = torch.tensor([[1, 255, 3]], dtype=torch.uint8)
    assert masks_from_labels(labels, (3, 2)).tolist() == [[[False, False, True]], [[False] * 3]]


def test_the_last_target_wins_an_overlap() -> None:
    masks = torch.tensor([[[1, 1, 0]], [[0, 1, 1]]], dtype=torch.bool)
    assert labels_from_masks(masks, (7, 5)).tolist() == [[7, 5, 5]]


def test_without_overlap_the_smallest_keeps_its_pixels() -> None:
    masks = torch.tensor([[1, 1, 1, 1, 0], [0, 1, 1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 1]], dtype=torch.bool)
    expected = torch.tensor([[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 1]], dtype=torch.bool)
    assert torch.equal(without_overlap(masks[:, None])[:, 0], expected)
    assert torch.equal(without_overlap(masks[:0, None]), masks[:0, None])


@given(mask_stacks)
def test_boxes_hold_their_masks_tightly(masks: Tensor) -> None:
    for mask, box in zip(masks, boxes_from_masks(masks), strict=True):
        rows, columns = np.nonzero(mask.numpy())
        tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0, 0, 0, 0]
        assert box.tolist() == tight


def test_no_masks_have_no_boxes() -> None:
    assert boxes_from_masks(torch.zeros(0, 5, 6, dtype=torch.bool)).shape == (0, 4)


def drawn(values: tuple[int, ...] = (255,)) -> np.ndarray:
    """A grey mask of one square for each value."""
    mask = np.zeros((48, 64), np.uint8)
    for number, value in enumerate(values):
        mask[10:26, 4 + 20 * number : 20 + 20 * number] = value
    return mask


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_grey_values_at_the_edges_of_a_mask_are_no_labels(tmp_path: Path, suffix: str, caplog) -> None:
    image = Image.fromarray(drawn())
    if suffix == "png":
        image = image.resize((128, 96), Image.Resampling.BICUBIC).resize((64, 48), Image.Resampling.BICUBIC)
    image.save(tmp_path / f"mask.{suffix}", quality=85)
    assert len(np.unique(np.array(Image.open(tmp_path / f"mask.{suffix}")))) > 2
    labels = read_label_map(tmp_path / f"mask.{suffix}")
    assert labels.unique().tolist() == [0, 255]
    assert (labels.numpy() != drawn()).sum() <= 2
    assert f"mask.{suffix}" in caplog.text
    assert "threshold 128" in caplog.text


def test_labels_in_jpeg_are_refused(tmp_path: Path) -> None:
    Image.fromarray(drawn((1, 2))).save(tmp_path / "labels.jpg", quality=95)
    with pytest.raises(InputError, match="JPEG changes the labels"):
        read_label_map(tmp_path / "labels.jpg")


@pytest.mark.parametrize("values", [(1, 2), (1, 255), (38, 75, 120), (255,)])
def test_grey_labels_with_void_are_labels(tmp_path: Path, values: tuple[int, ...], caplog) -> None:
    Image.fromarray(drawn(values)).save(tmp_path / "labels.png")
    assert read_label_map(tmp_path / "labels.png").unique().tolist() == [0, *values]
    assert not caplog.text


@pytest.mark.parametrize(
    "rle",
    [
        {"size": [24, 1 << 31], "counts": "1"},
        {"size": [2, -2], "counts": "1"},
        {"size": [2], "counts": "1"},
        {"size": [True, 2], "counts": "1"},
        {"size": "22", "counts": "1"},
        {"counts": "1"},
        {"size": [2, 2]},
        {"size": [2, 2], "counts": "\udc80"},
        {"size": [2, 2], "counts": [4]},
        None,
        "1",
    ],
)
def test_what_is_no_rle(rle: object) -> None:
    with pytest.raises(InputError, match="RLE 0"):
        rle_decode([rle])  # type: ignore[list-item]
