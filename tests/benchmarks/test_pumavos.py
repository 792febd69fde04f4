"""PUMaVOS: every folder is a clip, scored like DAVIS."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.benchmarks.davis import DAVIS
from common.benchmarks.pumavos import PUMaVOS
from common.errors import InputError
from tests.support.miniatures.davis import late
from tests.support.miniatures.pumavos import make


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make(tmp_path / "PUMaVOS", "pumavos")
    monkeypatch.setenv("VIDSEG_DATA", str(tmp_path))
    return tmp_path / "PUMaVOS"


def test_clips_are_the_folders(root: Path) -> None:
    benchmark = PUMaVOS()
    assert benchmark.root == root
    assert benchmark.ids == ["chair", "half_face"]
    assert (benchmark[0].targets, benchmark[1].targets) == ((1, 2), (1,))
    assert benchmark[0].name(3) == "0000003"
    assert PUMaVOS(videos=["half_face"]).ids == ["half_face"]


def test_the_score_is_that_of_davis(root: Path) -> None:
    for kind in ("JPEGImages", "Annotations"):
        (root / "davis" / kind).mkdir(parents=True)
        (root / kind).rename(root / "davis" / kind / "480p")
        (root / kind).symlink_to(root / "davis" / kind / "480p")
    lists = root / "davis" / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("chair\nhalf_face\n")
    ours, davis = PUMaVOS(), DAVIS(root / "davis")
    for a, b in zip(ours, davis, strict=True):
        mine, theirs = ours.measure(a, late(a)), davis.measure(b, late(b))
        assert mine["j"].equal(theirs["j"])
        assert mine["f"].equal(theirs["f"])
        assert mine["j"].lt(1).any()


def test_an_empty_folder_is_named(root: Path) -> None:
    for kind in ("JPEGImages", "Annotations"):
        (root / kind).rename(root / f"{kind} of another")
    with pytest.raises(InputError, match="PUMaVOS: no folders of videos in its JPEGImages and Annotations"):
        len(PUMaVOS())
