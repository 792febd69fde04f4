"""``cli.py`` before any verb runs, and what it says to wrong input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import cli
from common.cli.messages import RENAMED, options_of
from common.cli.methods import rows

COPY = "methods.baselines.CopyFirstMask"
TINY = {"class_path": "common.benchmarks.tiny.Tiny", "init_args": {"videos": 2, "frames": 5, "size": [32, 32]}}


def test_help_imports_nothing_heavy(repository: Path) -> None:
    code = "import sys, cli; cli.main(['--help']); sys.exit(bool({'torch', 'lightning', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(verb in done.stdout for verb in cli.VERBS)


def test_the_rows_of_a_method_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["methods", "sam2long"]) == 0
    assert "configs/sam2long/rows.yaml:table5_p2" in capsys.readouterr().out
    assert cli.main(["methods", "sam3"]) == 2
    assert "the methods with rows are" in capsys.readouterr().err


def test_methods_imports_no_torch(repository: Path) -> None:
    code = "import sys, cli; cli.main(['methods']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2410.16268" in done.stdout


def test_every_method_says_what_it_is(repository: Path) -> None:
    found = {row[0].split(".")[1] for row in rows(repository)}
    folders = {path.parent.name for path in (repository / "methods").glob("*/__init__.py")}
    assert found == folders - {"baselines"}  # these come from no paper


def test_benchmarks_without_data_say_where_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("VIDSEG_DATA", raising=False)
    assert cli.main(["benchmarks"]) == 0
    out = capsys.readouterr().out
    assert "tiny-easy" in out
    assert "VIDSEG_DATA" in out


@pytest.mark.parametrize(("verb", "answer"), [("tset", "did you mean 'test'?"), ("xyzzy", "see --help")])
def test_unknown_verb(verb: str, answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([verb]) == 2
    assert capsys.readouterr().err == f"error: unknown verb {verb!r}; {answer}\n"


@pytest.mark.parametrize(
    ("config", "flags", "words"),
    [
        ({"trainer": {"max_step": 3}}, [], ["'trainer.max_step'", "did you mean 'trainer.max_steps'"]),
        ({"modle": {"class_path": COPY}}, [], ["'modle'", "did you mean 'model'"]),
        ({"model": {"class_path": COPY, "init_args": {"weihgts": "x"}}}, [], ["'weihgts'", "did you mean 'weights'"]),
        ({}, ["--model", COPY, "--model.weihgts", "x"], ["'weihgts'", "did you mean 'weights'"]),
        ({}, ["--trainer.max_stepz", "3"], ["'trainer.max_stepz'", "did you mean 'trainer.max_steps'"]),
        ({}, ["--confgi", "a.yaml"], ["'confgi'", "did you mean 'config'"]),
        ({"data": {"batchsize": 3}}, [], ["'batchsize'", "did you mean 'batch_size'"]),
        (
            {"data": {"test": [{"class_path": TINY["class_path"], "init_args": {"prest": "easy"}}]}},
            [],
            ["Tiny", "'prest'", "did you mean 'preset'"],
        ),
        ({"data": {"test": [{"class_path": "common.benchmarks.tiny.Tinny"}]}}, [], ["Tinny", "no attribute"]),
        ({"model": {"class_path": "methods.nothing.X"}}, [], ["methods.nothing.X"]),
        ({"trainer": {"max_steps": "many"}}, [], ["trainer.max_steps", "expected int", "many"]),
        ({}, ["--config", "not_there.yaml"], ["not_there.yaml"]),
        ({"data": {"predict": ["no_such_clip.mp4"]}}, ["--model", COPY], ["no_such_clip.mp4"]),
    ],
)
def test_wrong_key_or_value_is_one_line(
    config: dict, flags: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = {"model": {"class_path": COPY}, "data": {"test": [TINY]}}
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump({**base, **config}))
    assert cli.main(["test", "--config", str(path), *flags]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("Seed set")]
    assert len(error) == 1
    assert all(word in error[0] for word in ["error: ", *words]), error


def test_missing_model_and_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["test"]) == 2
    error = capsys.readouterr().err
    assert "--model" in error
    assert "--data" in error


def test_options_include_those_of_the_base_class() -> None:
    assert {"width", "lr", "weights"} <= set(options_of("tests.support.toy.Toy"))
    assert "kwargs" not in options_of("tests.support.toy.Toy")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("methods.sam2long.SAM2Long --model.others 0.3", "has no option 'others'; it is called 'non_best_weight' now"),
        ("methods.sam2long.SAM2Long --model.reading paper", "it is called 'equation_variant' now"),
        (
            "methods.univs.UniVS --model.recipe.targets 3",
            "no option 'targets'; it is called 'max_prompts' now",
        ),
        ("methods.hqsmem.HQSMem --model.memory.short_skip 2", "it is called 'short_term_skip' now"),
        ("methods.hqsmem.HqSmem", "did you mean methods.hqsmem.HQSMem?"),
    ],
)
def test_a_renamed_key_names_the_new_one(model: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["test", "--model", *model.split()]) == 2
    assert message in capsys.readouterr().err


def test_every_renamed_key_leads_to_one_that_exists(repository: Path) -> None:
    sources = "".join(path.read_text() for room in ("common", "methods") for path in (repository / room).rglob("*.py"))
    assert [new for new in RENAMED.values() if f"{new}:" not in sources] == []
