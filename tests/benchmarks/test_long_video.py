"""Long Video: few annotated frames, ends that count or not, sizes that differ between copies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from common.benchmarks.long_video import LongVideo
from common.video import FrameMasks, Video
from common.video.masks import read_label_map, write_label_map
from tests.support.miniatures.davis import SIZE
from tests.support.miniatures.long_video import make


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make(tmp_path / "long", "longvideo")
    return tmp_path / "long"


def still(video: Video) -> Iterator[FrameMasks]:
    """The given mask, whatever happens."""
    mask = video.prompts[0].mask[None]
    for frame in range(len(video)):
        yield FrameMasks(frame, (1,), mask, torch.ones(1))


def test_only_annotated_frames_are_scored(root: Path) -> None:
    benchmark = LongVideo(root)
    assert benchmark.ids == ["blueboy", "rat"]
    rat = benchmark[1]
    assert (len(rat), list(rat.annotated), list(benchmark.scored_frames(rat))) == (13, [0, 4, 8, 12], [4, 8])
    assert rat.truth[5] is None
    # the square has moved by 4 of its 3 pixels
    assert benchmark.measure(rat, still(rat))["j"].tolist() == [[0], [0]]
    assert len(list(benchmark.write(rat, still(rat), root / "out"))) == 13
    assert len(list((root / "out" / "rat").iterdir())) == 13


def test_ends_are_an_option_that_the_protocol_tells(root: Path) -> None:
    dropped, kept = LongVideo(root), LongVideo(root, skip_first_and_last=False)
    assert list(kept.scored_frames(kept[1])) == [0, 4, 8, 12]
    assert "but first and last" in dropped.protocol
    assert "first and last included" in kept.protocol
    assert kept.measure(kept[1], still(kept[1]))["j"].tolist() == [[1], [0], [0], [0]]


def test_all_that_is_marked_is_one_target(root: Path) -> None:
    path = root / "Annotations" / "rat" / "00000.png"
    labels = read_label_map(path)
    for value in (255, 7):
        write_label_map(path, labels * value)
        video = LongVideo(root)[1]
        assert video.targets == (1,)
        assert torch.equal(video.prompts[0].mask, labels > 0)


def test_copies_of_another_size_have_another_protocol_id(root: Path, tmp_path: Path) -> None:
    make(tmp_path / "same", "longvideo")
    make(tmp_path / "other", "longvideo")
    for path in (tmp_path / "other" / "Annotations" / "rat").iterdir():
        write_label_map(path, torch.ones(2 * SIZE[0], 2 * SIZE[1], dtype=torch.uint8))
    scored = {"rat": 2, "blueboy": 1}
    first, same, other = (
        LongVideo(place).protocol_id(scored) for place in (root, tmp_path / "same", tmp_path / "other")
    )
    assert first == same != other
    assert first != LongVideo(root, skip_first_and_last=False).protocol_id(scored)
