"""OVIS and BURST as sets to train on."""

import json
from pathlib import Path

import pytest
import torch

from common.benchmarks.layouts.burst import BURST
from common.benchmarks.layouts.vis_json import OVIS
from common.data import ClipDataset
from common.errors import InputError
from tests.support.miniatures import burst_layout, ovis
from tests.support.miniatures.drawing import SIZE, squares


@pytest.mark.parametrize("listed_runs", [False, True])
def test_ovis(tmp_path: Path, listed_runs: bool) -> None:
    ovis.make(tmp_path, listed_runs)
    videos = OVIS(tmp_path)
    assert len(videos) == 1  # a crowd is no target
    video = videos[0]
    assert (video.id, len(video), video.targets) == ("walk", ovis.FRAMES, (1, 2))
    assert video.attributes == {"video_id": 3, "annotations": {1: 41, 2: 57}}
    assert (video.vocabulary, video.categories) == (("Bird", "Cat"), {1: 1, 2: 0})
    assert video.annotated is None
    maps = squares(ovis.FRAMES, ovis.SPANS)
    for frame in range(ovis.FRAMES):
        assert torch.equal(video.truth[frame], torch.stack([maps[frame] == 41, maps[frame] == 57]))


def test_ovis_below_images(tmp_path: Path) -> None:
    ovis.make(tmp_path)
    (tmp_path / "Images").mkdir()
    (tmp_path / "train").rename(tmp_path / "Images/train")
    assert OVIS(tmp_path)[0][0].shape == (*SIZE, 3)


def test_burst(tmp_path: Path) -> None:
    burst_layout.make(tmp_path)
    videos = BURST(tmp_path)
    assert len(videos) == 1
    video = videos[0]
    assert (video.id, len(video), video.targets, video.fps) == ("LaSOT/cup-1", burst_layout.FRAMES, (2, 5), 30)
    assert video.annotated == burst_layout.ANNOTATED
    assert (video.vocabulary, video.categories) == (("cup", "person"), {2: 1, 5: 0})
    maps = squares(burst_layout.FRAMES, burst_layout.SPANS)
    for frame in range(burst_layout.FRAMES):
        if frame in burst_layout.ANNOTATED:
            assert torch.equal(video.truth[frame], torch.stack([maps[frame] == 2, maps[frame] == 5]))
        else:
            assert video.truth[frame] is None


def test_burst_with_the_annotated_frames_alone(tmp_path: Path) -> None:
    burst_layout.make(tmp_path)
    for frame in set(range(burst_layout.FRAMES)) - set(burst_layout.ANNOTATED):
        (tmp_path / "frames/train/LaSOT/cup-1" / f"{burst_layout.NAMES[frame]}.jpg").unlink()
    assert BURST(tmp_path)[0].annotated == [0, 1, 2, 3]


def test_they_give_clips(tmp_path: Path) -> None:
    ovis.make(tmp_path / "ovis")
    burst_layout.make(tmp_path / "burst")
    for videos in (OVIS(tmp_path / "ovis"), BURST(tmp_path / "burst")):
        frames, masks = ClipDataset(videos, frames=3, size=SIZE)[0]
        assert frames.shape == (3, 3, *SIZE)
        assert masks[0].flatten(1).any(1).all()


def test_data_is_found_below_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ovis.make(tmp_path / "OVIS")
    monkeypatch.setenv("VIDSEG_DATA", str(tmp_path))
    assert len(OVIS()) == 1
    with pytest.raises(InputError, match=r"burst not found .*github.com/Ali2500"):
        len(BURST())


def changed(path: Path, change) -> None:
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


def shortened(said: dict) -> None:
    said["annotations"][0]["segmentations"].pop()


def spoilt(said: dict) -> None:
    said["annotations"][0]["segmentations"][0]["counts"] = "01"


def resized(said: dict) -> None:
    said["videos"][1]["height"] = 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda said: said.pop("annotations"), r"annotations_train\.json: without .*cannot be trained on"),
        (shortened, r"annotations_train\.json, video walk: 4 segmentations of track 41 for 5 frames"),
        (spoilt, r"annotations_train\.json, video walk, frame 0: RLE 0: its counts do not fill .*unpack"),
        (resized, r"video walk, frame 0: a mask is \(36, 48\), not \(7, 48\)"),
    ],
)
def test_bad_annotations_are_named(tmp_path: Path, change, message: str) -> None:
    ovis.make(tmp_path)
    changed(tmp_path / "annotations_train.json", change)
    with pytest.raises(InputError, match=message) as caught:
        OVIS(tmp_path)[0].truth[0]
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"annotations_train\.json: no such annotations; get them from https"):
        len(OVIS(tmp_path))
    (tmp_path / "annotations_train.json").write_text("{")
    with pytest.raises(InputError, match=r"annotations_train\.json: damaged"):
        len(OVIS(tmp_path))
    ovis.make(tmp_path)
    (tmp_path / "train/walk/img_0000003.jpg").unlink()
    with pytest.raises(InputError, match=r"train/walk: not the frames of .*such as img_0000003; unpack them again"):
        OVIS(tmp_path)[0]
    burst_layout.make(tmp_path)
    (tmp_path / "frames/train/LaSOT/cup-1/frame0004.jpg").unlink()
    with pytest.raises(InputError, match=r"LaSOT/cup-1: frame frame0004 is missing, but train\.json has masks of it"):
        BURST(tmp_path)[0]
