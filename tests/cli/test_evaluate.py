"""The verb ``evaluate``: options, tables, files, and what it says to wrong input."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml

import cli
from common.benchmarks.submissions.masks import zip_folder
from common.benchmarks.tiny.videos import Tiny
from common.cli.evaluate import method_name
from common.records.record import ResultRecord
from common.video.masks import write_label_map
from tests.support.miniatures.davis import submit

TINY = ["evaluate", "--benchmark", "tiny-easy", "--videos", "2", "--frames", "6", "--size", "[32, 32]", "--jobs", "1"]


@pytest.fixture
def pred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    submit(Tiny(videos=2, frames=6, size=(32, 32)), tmp_path / "mine")
    return tmp_path / "mine"


def test_table_and_record(pred: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = Tiny(videos=2, frames=6, size=(32, 32))
    assert cli.main([*TINY, "--predictions", str(pred)]) == 0
    out = capsys.readouterr().out
    record = ResultRecord.read("runs/evaluate/mine/tiny-easy-test/results.json")
    assert tiny.protocol in out
    assert f"protocol {record.protocol_id}, 2 videos" in out
    assert "8 frames" in out
    for number in tiny.numbers:
        assert f"{100 * record.metrics[number]:.1f}" in out
    assert record.method == "mine"
    assert record.config["benchmark"]["init_args"]["size"] == [32, 32]
    assert record.config["faults"] == 0
    assert tiny.ids[0] not in out
    assert (Path("runs/evaluate/mine/tiny-easy-test") / "per_frame.csv").is_file()


def test_worst_sequences_first(pred: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = Tiny(videos=2, frames=6, size=(32, 32)).ids[1]
    for file in (pred / last).iterdir():
        write_label_map(file, torch.zeros(32, 32, dtype=torch.uint8))
    flags = ["--predictions", str(pred), "--per-sequence", "--name", "Mine", "--output", "out"]
    assert cli.main([*TINY, *flags]) == 0
    out = capsys.readouterr().out
    first = next(id for id in Tiny(videos=2, frames=6, size=(32, 32)).ids if id != last)
    assert out.index(last) < out.index(first) < out.rindex("all ")
    assert ResultRecord.read("out/results.json").method == "Mine"


def test_difference_of_two_submissions(pred: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = Tiny(videos=2, frames=6, size=(32, 32)).ids
    shutil.copytree(pred, tmp_path / "other")
    for file in (pred / ids[1]).iterdir():
        write_label_map(file, torch.zeros(32, 32, dtype=torch.uint8))
    assert cli.main([*TINY, "--predictions", str(zip_folder(pred)), "--against", "other"]) == 0
    out = capsys.readouterr().out
    table = out[out.index("difference") :]
    lines = [line.split("│") for line in table.splitlines() if "│" in line]
    names = [line[1].strip() for line in lines]
    assert names == [ids[1], ids[0], "all"]
    ours, theirs, difference = (float(cell) for cell in lines[0][2:5])
    assert ours == 0 < theirs
    assert difference == pytest.approx(-theirs)
    assert float(lines[1][4]) == 0
    ours, theirs, difference = (float(cell) for cell in lines[2][2:5])
    assert difference == pytest.approx(ours - theirs, abs=0.11)
    assert ours < theirs


def test_lenient(pred: Path, capsys: pytest.CaptureFixture[str]) -> None:
    id = Tiny(videos=2, frames=6, size=(32, 32)).ids[0]
    (pred / id / "00002.png").unlink()
    (pred / "extra").mkdir()
    assert cli.main([*TINY, "--predictions", str(pred)]) == 2
    error = capsys.readouterr().err
    assert f"{id}/00002.png: no such file" in error
    assert error.count("\n") == 1
    assert not Path("runs").exists()
    assert cli.main([*TINY, "--predictions", str(pred), "--missing", "empty"]) == 0
    out = capsys.readouterr().out
    assert f"counted as empty: {pred}/{id}/00002.png: no such file" in out
    assert "not scored, no videos of this split: 1 (extra)" in out
    assert ResultRecord.read("runs/evaluate/mine/tiny-easy-test/results.json").config["faults"] == 1


def test_many_faults_are_counted(pred: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(pred / Tiny(videos=2, frames=6, size=(32, 32)).ids[0])
    flags = ["--frames", "30", "--predictions", str(pred), "--missing", "empty"]
    assert cli.main([*TINY, *flags]) == 0
    out = capsys.readouterr().out
    assert out.count("counted as empty") == 20
    assert "faults in all" in out


def test_options_come_from_the_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "--benchmark", "davis2017", "--help"])
    out = capsys.readouterr().out
    assert "--resolution" in out
    assert "--per-sequence" in out
    assert "--year" not in out
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "--help"])
    assert "--resolution" not in capsys.readouterr().out


def test_a_config_and_what_is_typed(pred: Path) -> None:
    Path("tiny.yaml").write_text("benchmark: tiny-easy\nvideos: 2\nframes: 9\nsize: [32, 32]\njobs: 1\n")
    flags = ["--config", "tiny.yaml", "--frames", "6", "--predictions", str(pred)]
    assert cli.main(["evaluate", *flags]) == 0
    record = ResultRecord.read("runs/evaluate/mine/tiny-easy-test/results.json")
    assert record.config["benchmark"]["init_args"]["frames"] == 6


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give --benchmark and --predictions"),
        (["--benchmark", "davis2017"], "give --benchmark and --predictions"),
        (["--benchmark", "davis217"], "did you mean davis2017?"),
        (["--benchmark"], "argument --benchmark: expected one argument"),
        (["--benchmark", "davis2017", "--predictons", "x"], "unknown key 'predictons'; did you mean 'predictions'?"),
        (["--benchmark", "davis2017", "--year", "2016"], "unknown key 'year'"),
        (["--benchmark", "davis2017", "--jobs", "many"], "jobs: expected int, not many"),
        (["--benchmark", "davis2017", "--missing", "x"], "missing: expected one of ['error', 'empty'], not x"),
        (["--benchmark", "davis2017", "--predictions", "x", "--root", "none"], "none: no such folder"),
        (["--benchmark", "tiny-easy", "--predictions", "none"], "none: no submission"),
        (["--config", "none.yaml", "--predictions", "none"], "none.yaml"),
    ],
)
def test_wrong_input(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_whose_submission_it_is(tmp_path: Path) -> None:
    file = tmp_path / "mine.zip"
    file.write_bytes(b"")
    assert method_name(file) == "mine"
    assert method_name(tmp_path / "theirs") == "theirs"
    assert method_name(tmp_path / "runs/sam2long/davis2017-val/predictions") == "sam2long"


def test_the_submission_of_a_run_has_the_scores_of_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = {
        "class_path": "common.benchmarks.tiny.Tiny",
        "init_args": {"preset": "occlusion", "videos": 2, "frames": 6, "size": [32, 32]},
    }
    Path("run.yaml").write_text(
        yaml.safe_dump({"data": {"test": [tiny]}, "trainer": {"accelerator": "cpu", "enable_model_summary": False}})
    )
    flags = ["--config", "run.yaml", "--model", "methods.baselines.CopyFirstMask", "--model.save_predictions", "true"]
    assert cli.main(["test", *flags]) == 0
    run = Path("runs/copyfirstmask/tiny-occlusion-test")
    size = ["--videos", "2", "--frames", "6", "--size", "[32, 32]", "--jobs", "1"]
    assert (
        cli.main(["evaluate", "--benchmark", "tiny-occlusion", *size, "--predictions", str(run / "predictions")]) == 0
    )
    scored = ResultRecord.read("runs/evaluate/copyfirstmask/tiny-occlusion-test/results.json")
    tested = ResultRecord.read(run / "results.json")
    assert scored.metrics == tested.metrics
    assert 0 < scored.metrics["J&F"] < 1
    assert (scored.videos, scored.protocol_id) == (tested.videos, tested.protocol_id)
