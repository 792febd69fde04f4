"""Plans: what is run, what is not run again, and what is said when it fails."""

from pathlib import Path

import pytest
import yaml

from common.errors import InputError
from common.files import folder_lock
from common.leaderboard.command import main
from common.leaderboard.runner import read_plan, run_plan

TINY = {"class_path": "common.benchmarks.tiny.Tiny", "init_args": {"videos": 2, "frames": 5, "size": [32, 32]}}
CLIPS = {
    "class_path": "common.synthetic.SyntheticClips",
    "init_args": {"length": 4, "frames": 6, "size": [32, 32]},
}
QUICK = "--model tests.support.toy.Toy"


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    data = {"train": [CLIPS], "test": [TINY], "batch_size": 2, "frames": 2, "size": [32, 32], "clips_per_epoch": 2}
    trainer = {"accelerator": "cpu", "max_steps": 2, "enable_model_summary": False}
    config = tmp_path / "toy.yaml"
    config.write_text(yaml.safe_dump({"data": data, "trainer": trainer}))
    command = f"--config {config} {QUICK}"
    rows = {
        "toy": {"fit": command, "test": command},
        "again": {"weights_of": "toy", "test": f"{command} --model.save_predictions true"},
    }
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump({"output": str(tmp_path / "runs"), "seeds": [3], "rows": rows}))
    return path


def test_a_plan_becomes_steps(plan: Path) -> None:
    output, (fit,), (toy, again) = read_plan(plan)
    assert fit.folder == toy.trained == again.trained == output / "toy_seed3" / "train"
    assert fit.command()[2] == "fit"
    assert "--ckpt_path" not in fit.command()
    checkpoint = str(fit.folder / "checkpoints" / "last.ckpt")
    assert toy.command()[-2:] == again.command()[-2:] == ["--ckpt_path", checkpoint]


def test_a_step_is_run_again_when_its_row_changes_and_not_when_another_does(tmp_path: Path, plan: Path) -> None:
    rows = {"one": {"model": {"p": 1}}, "two": {"model": {"p": 2}}}
    file = tmp_path / "rows.yaml"
    settings = yaml.safe_load(plan.read_text())
    settings["rows"] = {"toy": {"test": f"--config {tmp_path / 'toy.yaml'} --config {file}:one"}}
    plan.write_text(yaml.safe_dump(settings))
    keys = []
    for change in ({}, {"two": {}}, {"one": {"model": {"p": 3}}}):
        file.write_text(yaml.safe_dump({"class_path": "a.B", "after": ["toy"], "rows": rows | change}))
        (step,) = read_plan(plan)[2]
        keys.append(step.key)
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.slow
def test_what_is_missing_is_run_and_nothing_else(
    plan: Path, monkeypatch: pytest.MonkeyPatch, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(repository))
    assert main(["--run", str(plan), "--jobs", "2"]) == 0
    assert "Toy" in capsys.readouterr().out
    output, (fit,), tests = read_plan(plan)
    assert len(list(output.rglob("results.json"))) == 2
    assert fit.done
    assert all(step.done for step in tests)
    made = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    run_plan(plan)
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()} == made
    (output / "again_seed3" / ".test").unlink()  # interrupted there
    assert {step.folder.name: step.done for step in tests} == {"toy_seed3": True, "again_seed3": False}


def test_a_failed_run_is_told_and_the_others_go_on(tmp_path: Path, plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cli.py").write_text("import sys; sys.exit('--bad' in sys.argv and ' '.join(sys.argv[1:]))")
    monkeypatch.setattr("common.leaderboard.runner.CLI", tmp_path / "cli.py")
    settings = yaml.safe_load(plan.read_text())
    settings["rows"] = {"bad": {"test": "--bad 1"}, "good": {"test": "--good 1"}}
    plan.write_text(yaml.safe_dump(settings))
    with pytest.raises(InputError, match=r"bad_seed3: test failed \(test --bad 1 .*test\.log$"):
        run_plan(plan)
    assert [(tmp_path / "runs" / name / ".test").is_file() for name in ("bad_seed3", "good_seed3")] == [False, True]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "cannot be read"),
        ("output: x", "a plan has output, seeds and rows"),
        ("{output: x, seeds: [1], rows: {a: {fit: b}}}", "row a: it has test"),
        ("{output: x, seeds: [1], rows: {a: {test: b, weights_of: c}}}", "which is no row with fit"),
    ],
)
def test_a_plan_that_cannot_be_read(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        read_plan(tmp_path / "plan.yaml")


def test_two_runs_of_one_step_do_not_mix(tmp_path: Path, plan: Path) -> None:
    _, _, tests = read_plan(plan)
    step = tests[0]
    step.folder.mkdir(parents=True)
    with folder_lock(step.folder), pytest.raises(InputError, match="another process works here"):
        step.run()
    assert not (step.folder / "test.log").exists()
