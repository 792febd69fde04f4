"""The training recipe as the YAML has it: both data settings, on data sets of a few small frames."""

from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser

from common.configs import load_config
from common.data import VideoDataModule
from tests.support.miniatures import burst_layout, davis, mose, ovis, youtube_vos

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "sslvos"
# Frames from one annotated frame to the next and, of the published 5, 10, 15, 5, what is left of them.
SKIPS = {"YouTubeVOS": [1, 2, 3, 1], "DAVIS": [2, 5, 7, 2], "OVIS": [1, 3, 5, 1], "MOSE": [1, 2, 3, 1]}
SKIPS["BURST"] = SKIPS["MOSE"]


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    youtube_vos.make(tmp_path / "youtubevos2019", "youtubevos2019")
    davis.make(tmp_path / "davis2017", "davis2017")
    (tmp_path / "davis2017/ImageSets/2017/val.txt").rename(tmp_path / "davis2017/ImageSets/2017/train.txt")
    ovis.make(tmp_path / "ovis")
    mose.make(tmp_path / "mose", "mose")
    burst_layout.make(tmp_path / "burst")
    monkeypatch.setenv("VIDSEG_DATA", str(tmp_path))
    return tmp_path


def module(*names: str, **changes: object) -> VideoDataModule:
    """The data module that the configs give one after the other, without the sets that are tested on."""
    settings: dict = {}
    for name in names:
        settings |= load_config(CONFIGS / name)["data"]["init_args"]
    parser = ArgumentParser()
    parser.add_class_arguments(VideoDataModule, "data")
    return parser.instantiate(parser.parse_object({"data": settings | {"test": None} | changes})).data


@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        (["paper.yaml", "paper_train.yaml"], ["YouTubeVOS", "DAVIS"]),
        (["paper.yaml", "paper_train.yaml", "paper_train_mega.yaml"], ["YouTubeVOS", "DAVIS", "OVIS", "MOSE", "BURST"]),
        (["paper.yaml", "paper_train.yaml", "rows.yaml:tableA3_mose"], ["MOSE"]),
    ],
)
def test_sets_steps_and_clips(sets: Path, names: list[str], kinds: list[str]) -> None:
    data = module(*names, size=[32, 32], clips_per_epoch=12, batch_size=4)
    sources = data.clips.sources
    assert [type(source.videos).__name__ for source in sources] == kinds
    for source in sources:
        skips = []
        for epoch in (0, 9, 10, 29, 30, 79, 80, 99):
            source.set_epoch(epoch)
            skips.append(source.skip)
        assert skips[::2] == skips[1::2] == SKIPS[type(source.videos).__name__]
        assert (source.frames, source.max_objects, source.reverse) == (8, 3, 0.5)
        source.set_epoch(0)
    clips = list(data.train_dataloader())
    assert len(clips) == 3
    for clip in clips:
        assert clip.frames.shape == (4, 8, 3, 32, 32)
        assert 1 <= clip.masks.shape[2] <= 3
        assert (clip.masks[:, 0].flatten(2).any(2) == clip.valid).all()


def test_recipe_of_the_paper() -> None:
    """Table A1 and section 4.1, or the release where the README says so."""
    model, train, mega = (
        yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()) for name in ("paper", "paper_train", "paper_train_mega")
    )
    data = train["data"]["init_args"]
    assert data["batch_size"] * train["trainer"]["devices"] == 16
    assert (data["size"], data["weights"]) == ([480, 480], [3471, 5 * 60])
    epochs = data["clips_per_epoch"] / 16
    assert train["trainer"]["max_steps"] == 125_000 == 100 * epochs
    assert mega["trainer"]["max_steps"] == 175_000 == 100 * mega["data"]["init_args"]["clips_per_epoch"] / 16
    settings = model["model"]["init_args"]
    assert (settings["lr"], settings["weight_decay"], settings["milestones"]) == (5e-5, 0.05, [100_000, 115_000])
    assert settings["recipe"]["references"] == 3
    assert settings["recipe"]["points"] == {"count": 12544, "oversample": 3.0, "uncertain": 0.75}
