"""fit and test through the real command line: where things go, and the traps that are closed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import cli
from common.cli.suite import AtomicCheckpointIO

DATA = {
    "train": [
        {
            "class_path": "common.synthetic.SyntheticClips",
            "init_args": {"length": 4, "frames": 6, "size": [32, 32]},
        }
    ],
    "test": [{"class_path": "common.benchmarks.tiny.Tiny", "init_args": {"videos": 2, "frames": 5, "size": [32, 32]}}],
    "batch_size": 2,
    "frames": 2,
    "size": [32, 32],
    "clips_per_epoch": 2,
}
RESULTS = "tiny-easy-test/results.json"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "toy.yaml"
    trainer = {"accelerator": "cpu", "max_steps": 2, "log_every_n_steps": 1, "enable_model_summary": False}
    path.write_text(yaml.safe_dump({"data": DATA, "trainer": trainer}))
    return path


@pytest.fixture(scope="module")
def trained(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a Toy of width 6 trained for two steps."""
    root = tmp_path_factory.mktemp("runs") / "toy"
    flags = ["--model", "tests.support.toy.Toy", "--model.width", "6", "--model.lr", "0.5"]
    assert cli.main(["fit", "--config", str(config), *flags, *at(root)]) == 0
    return root


def at(root: Path) -> list[str]:
    return ["--trainer.default_root_dir", str(root)]


def settings(root: Path) -> dict:
    return json.loads((root / RESULTS).read_text())["config"]["model"]


def test_fit_leaves_config_checkpoints_and_curve(trained: Path) -> None:
    saved = yaml.safe_load((trained / "config.yaml").read_text())
    assert saved["model"]["init_args"]["width"] == 6
    assert saved["seed_everything"] == 0
    assert (trained / "checkpoints" / "last.ckpt").is_file()
    assert list((trained / "logs").glob("version_*/metrics.csv"))


def test_typed_values_win_over_the_checkpoint_which_fills_in_the_rest(
    trained: Path, config: Path, tmp_path: Path
) -> None:
    checkpoint = str(trained / "checkpoints" / "last.ckpt")
    flags = ["--model", "tests.support.toy.Toy", "--model.lr", "0.25", "--ckpt_path", checkpoint]
    assert cli.main(["test", "--config", str(config), *flags, *at(tmp_path)]) == 0
    record = json.loads((tmp_path / RESULTS).read_text())
    model = record["config"]["model"]
    assert model["class_path"] == "tests.support.toy.Toy"
    assert model["init_args"]["lr"] == 0.25  # typed; 0.5 is stored
    assert model["init_args"]["width"] == 6  # stored; 4 is the default
    assert record["weights"] == checkpoint
    assert len(record["weights_sha256"]) == 64


def test_values_of_a_config_file_win_over_the_checkpoint(trained: Path, config: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.yaml"
    model.write_text(
        yaml.safe_dump({"model": {"class_path": "tests.support.toy.Toy", "init_args": {"weight_decay": 0.3}}})
    )
    flags = ["--config", str(model), "--ckpt_path", str(trained / "checkpoints" / "last.ckpt")]
    assert cli.main(["test", "--config", str(config), *flags, *at(tmp_path)]) == 0
    used = settings(tmp_path)["init_args"]
    assert (used["weight_decay"], used["lr"], used["width"]) == (0.3, 0.5, 6)


def test_a_class_from_elsewhere_in_a_checkpoint_is_refused_before_it_is_imported(
    trained: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    checkpoint = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint["hyper_parameters"]["lr"] = [{"init_args": {"lr": {"class_path": "elsewhere.Rate"}}}]
    torch.save(checkpoint, tmp_path / "other.ckpt")
    flags = ["--model", "tests.support.toy.Toy", "--ckpt_path", str(tmp_path / "other.ckpt")]
    assert cli.main(["test", "--config", str(config), *flags, *at(tmp_path)]) == 2
    assert "its settings name the class elsewhere.Rate" in capsys.readouterr().err


def test_a_checkpoint_that_is_cut_short_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, save = tmp_path / "last.ckpt", torch.save
    AtomicCheckpointIO().save_checkpoint({"a": torch.ones(3)}, path)

    def cut(checkpoint: object, file: Any) -> None:
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", cut)
    with pytest.raises(OSError, match="disk full"):
        AtomicCheckpointIO().save_checkpoint({"a": torch.zeros(3)}, path)
    monkeypatch.setattr(torch, "save", save)
    assert torch.equal(torch.load(path, weights_only=True)["a"], torch.ones(3))
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_checkpoint_of_another_class_is_an_error(
    trained: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model", "tests.support.toy.OtherToy", "--ckpt_path", str(trained / "checkpoints" / "last.ckpt")]
    assert cli.main(["test", "--config", str(config), *flags, *at(tmp_path)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "tests.support.toy.Toy" in error
    assert "tests.support.toy.OtherToy" in error
    assert not (tmp_path / RESULTS).exists()


def test_typed_size_that_does_not_fit_the_checkpoint_names_the_keys(
    trained: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [
        "--model",
        "tests.support.toy.Toy",
        "--model.width",
        "5",
        "--ckpt_path",
        str(trained / "checkpoints" / "last.ckpt"),
    ]
    assert cli.main(["test", "--config", str(config), *flags, *at(tmp_path)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "network.0.weight (6, 3, 1, 1) instead of (5, 3, 1, 1)" in error


@pytest.mark.parametrize("content", ["weights", "half", "nothing"])
def test_wrong_checkpoint_is_one_line(
    content: str, trained: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.ckpt"
    if content == "weights":
        torch.save({"network.0.weight": torch.zeros(1)}, path)
    elif content == "half":
        whole = (trained / "checkpoints" / "last.ckpt").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    flags = ["--model", "tests.support.toy.Toy", "--ckpt_path", str(path)]
    assert cli.main(["test", "--config", str(config), *flags, *at(tmp_path)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "wrong.ckpt" in error


def test_scoring_without_weights_is_refused_unless_random_is_asked_for(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["test", "--config", str(config), "--model", "tests.support.toy.Toy", *at(tmp_path)]
    assert cli.main(command) == 2
    assert "--model.weights" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / RESULTS).exists()
    assert cli.main([*command, "--model.weights", "random"]) == 0
    assert json.loads((tmp_path / RESULTS).read_text())["weights_note"] == "random"


def test_a_second_run_into_the_same_folder_goes_on(config: Path, tmp_path: Path) -> None:
    command = ["test", "--config", str(config), "--model", "methods.baselines.CopyFirstMask", *at(tmp_path)]
    assert cli.main([*command, "--model.save_predictions", "true"]) == 0
    first = json.loads((tmp_path / RESULTS).read_text())
    assert cli.main(command) == 0
    assert json.loads((tmp_path / RESULTS).read_text())["metrics"] == first["metrics"]
    assert math.isfinite(first["metrics"]["J&F"])
    assert len(list((tmp_path / "tiny-easy-test" / "predictions").glob("*/*.png"))) == 2 * 5
    assert len(list((tmp_path / "tiny-easy-test" / "per_video").glob("*.json"))) == 2
    assert yaml.safe_load((tmp_path / "test.yaml").read_text())["model"]["init_args"]["save_predictions"] is False


def test_last_ckpt_is_that_of_the_last_run(config: Path, tmp_path: Path) -> None:
    for lr in (0.5, 0.25):
        flags = ["--model", "tests.support.toy.Toy", "--model.lr", str(lr)]
        assert cli.main(["fit", "--config", str(config), *flags, *at(tmp_path)]) == 0
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"]["lr"] == 0.25
    assert not list((tmp_path / "checkpoints").glob("last-v*"))


def test_a_loss_that_is_not_finite_stops_the_training(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model", "tests.support.toy.Toy", "--model.lr", "1.0e+20", "--trainer.max_steps", "6"]
    assert cli.main(["fit", "--config", str(config), *flags, *at(tmp_path)]) == 2
    assert "the loss is not finite at step" in capsys.readouterr().err
    assert json.loads((tmp_path / "failed_batch.json").read_text())["step"] > 0


def test_callbacks_of_a_config_do_not_cost_the_checkpoint(config: Path, tmp_path: Path) -> None:
    extra = tmp_path / "extra.yaml"
    monitor = {"class_path": "lightning.pytorch.callbacks.LearningRateMonitor"}
    extra.write_text(yaml.safe_dump({"trainer": {"callbacks": [monitor]}}))
    flags = ["--config", str(extra), "--model", "tests.support.toy.Toy"]
    assert cli.main(["fit", "--config", str(config), *flags, *at(tmp_path)]) == 0
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()


def test_a_failed_video_is_named_at_the_end_and_the_others_are_saved(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(yaml.safe_dump({"data": {"test": [{"class_path": "tests.support.toy.BrokenVideo"}]}}))
    flags = ["--config", str(broken), "--model", "methods.baselines.CopyFirstMask"]
    assert cli.main(["test", "--config", str(config), *flags, *at(tmp_path)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: 1 of the videos failed")
    assert "clip2.mp4: frame 3 is truncated" in error
    assert len(list((tmp_path / "tiny-easy-test" / "per_video").glob("*.json"))) == 2
    assert not (tmp_path / RESULTS).exists()


def test_default_folder_is_named_after_the_method(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["test", "--config", str(config), "--model", "methods.baselines.CopyFirstMask"]) == 0
    assert (tmp_path / "runs" / "copyfirstmask" / RESULTS).is_file()
