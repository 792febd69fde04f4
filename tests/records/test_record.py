"""Records survive a round trip, damage is named, and a rerun goes on only with its own videos."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.errors import InputError
from common.files import digest, file_sha256
from common.records.environment import _commit, environment
from common.records.per_video import load_video, save_video
from common.records.record import ResultRecord


def record(**changes: object) -> ResultRecord:
    values = {"method": "SAM2Long", "benchmark": "davis2016", "split": "val", "metrics": {"J&F": 0.5}}
    return ResultRecord(**{**values, **changes})


def test_round_trip(tmp_path: Path) -> None:
    written = record(
        **environment(),
        variant="nano",
        videos={"bear": {"J": 0.25, "F": math.nan}},
        config={"seed": 1, "lr": 1e-4, "path": Path("a")},
        frames_per_second=12.5,
        seed=1,
    )
    path = written.write(tmp_path / "run")
    assert path == tmp_path / "run" / "results.json"
    data = json.loads(path.read_text())
    assert data["config_hash"] == written.config_hash
    assert data["videos"]["bear"]["F"] is None
    back = ResultRecord.read(path)
    assert math.isnan(back.videos["bear"]["F"])
    back.videos["bear"]["F"] = written.videos["bear"]["F"] = 0.0
    written.config["path"] = "a"
    assert back == written
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = record().write(tmp_path)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        record(metrics={"J&F": 0.9}).write(tmp_path)
    assert ResultRecord.read(path).metrics == {"J&F": 0.5}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"method": "SAM2', "damaged"),
        ("[]", "no record"),
        ('{"method": "a", "benchmark": "b", "metrics": {}}', "lacks split"),
        ('{"method": "a", "benchmark": "b", "split": "c", "metrics": {}, "colour": 1}', "unknown key colour"),
        ('{"method": "a", "benchmark": "b", "split": "c", "metrics": {"J": "high"}}', "J is 'high'"),
        ('{"method": "a", "benchmark": "b", "split": "c", "metrics": 3}', "metrics"),
        ('{"method": "a", "benchmark": "b", "split": "c", "metrics": {}, "videos": {"v": 1}}', "1 should be numbers"),
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        ResultRecord.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: cannot read"):
        ResultRecord.read(tmp_path / "none.json")


def test_digest_sees_content_and_not_order() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert len({digest({"a": 1}), digest({"a": 2}), digest({"a": 1}, "w"), digest(["a", "b"]), digest(["b", "a"])}) == 5


def test_file_checksum(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert file_sha256(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_videos_are_kept_to_the_last_digit(tmp_path: Path) -> None:
    values = {"j": np.random.default_rng(1).random((5, 2)), "n": np.array([3, 4]), "none": np.zeros((0, 3), np.float32)}
    values["mean"], values["seen"] = np.array(0.5), np.array([True, False])
    values["j"][0, 0] = math.nan
    save_video(tmp_path, "a/b c", values, key="k")
    back = load_video(tmp_path, "a/b c", key="k")
    assert back is not None
    for name, value in values.items():
        assert back[name].dtype == value.dtype
        np.testing.assert_array_equal(back[name], value)
        assert back[name].shape == value.shape


def test_only_the_same_run_goes_on(tmp_path: Path) -> None:
    save_video(tmp_path, "bear", {"j": np.zeros(1)}, key="one")
    assert load_video(tmp_path, "bear", key="two") is None
    assert load_video(tmp_path, "dog", key="one") is None
    next(tmp_path.iterdir()).write_text('{"key": "one", "val')
    assert load_video(tmp_path, "bear", key="one") is None


def test_environment_knows_a_changed_checkout(tmp_path: Path) -> None:
    assert _commit(tmp_path) == ""
    for words in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    assert len(_commit(tmp_path)) == 40
    (tmp_path / "new").touch()
    assert _commit(tmp_path).endswith("+dirty")
    (tmp_path / "inner").mkdir()
    assert _commit(tmp_path / "inner") == ""
    found = environment()
    assert found["machine"]["cores"] >= 1
    assert {"python", "torch", "lightning"} <= found["versions"].keys()


def test_reading_records_imports_no_torch(repository: Path) -> None:
    modules = "common.records.run, common.records.per_video, common.leaderboard.command"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=repository).returncode == 0


@pytest.mark.parametrize(
    ("method", "note", "standard"),
    [
        ("SAM2.1", "ours", "nano"),
        ("VQ-SAM", "ours", "partial"),  # it had loaded the weights of SAM 2
        ("UniVS", "ours nano", "nano"),
        ("UniVS", "univs_nano.safetensors", "nano"),
        ("Cutie", "cutie-base-mega.pth", "published"),
        ("Cutie", "last.ckpt", "trained here"),
        ("Cutie", "trained here", "trained here"),
        ("Copy", "", ""),
        ("Other", "of a friend", "of a friend"),
    ],
)
def test_earlier_notes_on_weights_have_one_standard_spelling(method: str, note: str, standard: str) -> None:
    record = ResultRecord(method, "davis2016", "val", {}, weights_note=note)
    assert record.standard_note == standard
