"""The verb ``benchmarks``, and that ``test`` and ``evaluate`` give one number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import cli
from common.benchmarks.registry import BENCHMARKS
from tests.support.miniatures.davis import make, make_davis, squares

Output = pytest.CaptureFixture[str]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of all data, which has DAVIS 2017."""
    make(tmp_path / "data" / "DAVIS-2017", "davis2017")
    monkeypatch.setenv("VIDSEG_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_the_list_fits_a_terminal_and_says_where_data_is(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(["benchmarks"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(any(line.startswith(name) for line in lines) for name in BENCHMARKS)
    assert "".join(line.strip() for line in lines).count(str(data / "DAVIS-2017")) >= 1
    assert "get it from" not in out
    assert len(lines) < 6 * len(BENCHMARKS)


def test_one_is_shown_with_its_layout_and_where_to_put_it(data: Path, capsys: Output) -> None:
    assert cli.main(["benchmarks", "davis2017"]) == 0
    out = capsys.readouterr().out
    for part in (
        "Annotations/480p/<sequence>/00000.png",
        "https://davischallenge.org",
        "davis2017",
        "$VIDSEG_DATA",
        f"found in: {data / 'DAVIS-2017'}",
    ):
        assert part in out
    assert cli.main(["benchmarks", "sav"]) == 0
    assert "not found here" in capsys.readouterr().out


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_one_can_be_shown(name: str, capsys: Output) -> None:
    assert cli.main(["benchmarks", name]) == 0
    assert capsys.readouterr().out.startswith(f"{name}: ")


def test_whole_data_passes(data: Path, capsys: Output) -> None:
    assert cli.main(["benchmarks", "check", "davis2017"]) == 0
    assert capsys.readouterr().out == "2 videos, 11 frames, 11 annotated frames, 3 objects\nproblems: none\n"
    assert cli.main(["benchmarks", "check", "davis2017", "--split", "test-dev", "--jobs", "1"]) == 0
    assert "1 videos, 4 frames, 1 annotated frames, 2 objects" in capsys.readouterr().out


def test_problems_are_listed_and_the_status_is_1(data: Path, capsys: Output) -> None:
    (data / "DAVIS-2017/JPEGImages/480p/duck/00002.jpg").unlink()
    (data / "DAVIS-2017/Annotations/480p/swing/00002.png").write_bytes(b"no image")
    assert cli.main(["benchmarks", "check", "davis2017"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("missing frame: ")
    assert lines[0].endswith("480p/duck: frame 00002 is missing")
    assert any(line.startswith("bad annotation: ") and "swing/00002.png" in line for line in lines)
    assert lines[-4] == "problems: 3"


def test_the_root_comes_from_the_command_line_then_a_config_then_the_environment(
    data: Path, tmp_path: Path, capsys: Output
) -> None:
    config = tmp_path / "data.yaml"
    config.write_text(yaml.safe_dump({"root": str(make_davis(tmp_path / "one", {"a": squares(7)}))}))
    make_davis(tmp_path / "two", {"a": squares(8)})
    command = ["benchmarks", "check", "davis2017"]
    for options, frames in (
        ([], 11),
        (["--config", str(config)], 7),
        (["--config", str(config), "--root", str(tmp_path / "two")], 8),
    ):
        assert cli.main([*command, *options]) == 0
        assert f" {frames} frames" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["davis"], ["davis: no such benchmark", "did you mean"]),
        (["check"], ["give the name", "davis2016"]),
        (["check", "sav"], ["https://ai.meta.com", "VIDSEG_DATA"]),
        (["check", "davis2017", "--spilt", "val"], ["'spilt'", "did you mean 'split'"]),
        (["check", "davis2017", "--jobs", "0"], ["jobs 0"]),
        (["check", "davis2017", "--jobs", "many"], ["jobs", "many"]),
        (["--all"], ["--all"]),
        (["davis2017", "davis2016"], ["NAME"]),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], words: list[str], data: Path, capsys: Output) -> None:
    assert cli.main(["benchmarks", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(word in error for word in words), error


def test_a_run_and_its_submission_have_one_number(data: Path, tmp_path: Path) -> None:
    """``test`` with --model.save_predictions, then ``evaluate`` on what it wrote."""
    config = tmp_path / "run.yaml"
    benchmark = {"class_path": "common.benchmarks.davis.DAVIS"}
    config.write_text(yaml.safe_dump({"data": {"test": [benchmark]}, "trainer": {"accelerator": "cpu"}}))
    run = tmp_path / "run"
    flags = ["--model.save_predictions", "true", "--trainer.default_root_dir", str(run)]
    assert cli.main(["test", "--config", str(config), "--model", "methods.baselines.CopyFirstMask", *flags]) == 0
    submission = run / "davis2017-val" / "predictions"
    evaluated = ["evaluate", "--benchmark", "davis2017", "--jobs", "1", "--output", str(tmp_path / "scores")]
    ran = json.loads((run / "davis2017-val" / "results.json").read_text())
    for predictions in (submission, submission.with_name("predictions.zip")):
        assert cli.main([*evaluated, "--predictions", str(predictions)]) == 0
        scored = json.loads((tmp_path / "scores" / "results.json").read_text())
        for key in ("metrics", "videos", "protocol", "protocol_id", "benchmark", "split"):
            assert ran[key] == scored[key], key
    assert 0 < ran["metrics"]["J&F"] < 1
