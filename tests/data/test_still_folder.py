"""Photographs with label maps in one folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from common.data.clips import ClipDataset
from common.data.still_folder import StillFolder, is_held_out
from common.errors import InputError
from common.video.masks import write_label_map


def write_still(folder: Path, name: str, labels: torch.Tensor) -> None:
    """A photograph whose red is 100 times the label."""
    red = (labels * 100).clamp(max=255).to(torch.uint8)
    Image.fromarray(torch.stack([red, red * 0, red * 0], -1).numpy()).save(folder / f"{name}.jpg", quality=95)
    write_label_map(folder / f"{name}.png", labels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    labels = torch.zeros(24, 32, dtype=torch.uint8)
    labels[4:16, 4:16] = 1
    labels[10:20, 20:30] = 2
    for number in range(40):
        write_still(tmp_path, f"{'ab'[number % 2]}__{number:02d}", labels)
    return tmp_path


def test_an_image_is_a_video_of_one_frame_with_its_objects(folder: Path) -> None:
    video = StillFolder(folder, part="all")[0]
    assert len(video) == 1
    assert video.targets == (1, 2)
    assert video[0].shape == (24, 32, 3)
    assert video.truth[0].sum((1, 2)).tolist() == [144, 100]
    assert abs(int(video[0][8, 8, 0]) - 100) < 12


def test_the_held_out_tenth_is_chosen_by_name_and_not_trained_on(folder: Path) -> None:
    train, held_out, everything = (StillFolder(folder, part=part) for part in ("train", "held_out", "all"))
    assert len(train) + len(held_out) == len(everything) == 40
    assert held_out.names
    assert all(is_held_out(name) for name in held_out.names)
    assert not set(train.names) & set(held_out.names)


def test_prefixes_choose_sources(folder: Path) -> None:
    assert len(StillFolder(folder, part="all", prefixes=["a__"])) == 20


def test_stills_give_clips_of_one_repeated_frame(folder: Path) -> None:
    frames, masks = ClipDataset(StillFolder(folder), frames=2, size=(16, 16))[0]
    assert torch.equal(frames[0], frames[1])
    assert masks.shape == (2, 2, 16, 16)


def test_a_folder_without_images_and_a_mask_of_another_size_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no annotated image"):
        len(StillFolder(tmp_path))
    write_still(tmp_path, "x", torch.ones(8, 8, dtype=torch.uint8))
    write_label_map(tmp_path / "x.png", torch.ones(8, 9, dtype=torch.uint8))
    with pytest.raises(InputError, match="differ"):
        StillFolder(tmp_path, part="all")[0]
