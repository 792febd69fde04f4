"""Every YAML that the project ships goes through the real command line; the small ones also train and test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

import cli
from common.cli.suite import SuiteCLI
from common.leaderboard.runner import read_plan
from common.nn.sam2.weights import NANO
from common.synthetic import SyntheticClips
from common.video import write_label_map

ROOT = Path(__file__).resolve().parents[1]
YAMLS = sorted((ROOT / "configs").rglob("*.yaml"))
PLANS = [path for path in YAMLS if "rows" in yaml.safe_load(path.read_text())]
CONFIGS = [path for path in YAMLS if path not in PLANS]
VERBS = {"train": "fit", "test": "test", "predict": "predict"}


def content(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def stands_alone(path: Path) -> bool:
    """Whether a file names a model and data; the others are put after one that does."""
    return {"model", "data"} <= content(path).keys()


def run_of(path: Path) -> list[Path]:
    """The configs to give, in order: a file that stands alone, or one after the base that it is named after or nano."""
    if stands_alone(path):
        return [path]
    folder = path.parent if path.parent.parent.name == "configs" else path.parent.parent
    bases = [base for base in folder.glob("*.yaml") if stands_alone(base) and path.stem.startswith(base.stem)]
    nano = [folder / "nano.yaml", ROOT / "configs" / "sam2long" / "nano.yaml"]
    return [(bases or [base for base in nano if base.is_file()])[0], path]


def flags(paths: list[Path]) -> list[str]:
    return [word for path in paths for word in ("--config", str(path))]


class Parsed(Exception):
    """The command line went through; carries the settings of the verb."""


class ParseOnly(SuiteCLI):
    """Stops when the settings are complete, before anything is built."""

    def before_instantiate_classes(self) -> None:
        super().before_instantiate_classes()
        raise Parsed(self.config[self.subcommand])


def parse(verb: str, paths: list[Path]) -> Any:
    with pytest.raises(Parsed) as parsed:
        ParseOnly([verb, *flags(paths)])
    return parsed.value.args[0]


CASES = [run_of(path) for path in CONFIGS]
HERE = ("common.synthetic.", "common.benchmarks.davis.")  # sets that the tests have, or can make


def trainable(path: Path) -> bool:
    """Whether it trains, on sets that are here."""
    sets = content(path)["data"]["init_args"].get("train", []) if stands_alone(path) else []
    return bool(sets) and all(one["class_path"].startswith(HERE) for one in sets)


TRAINABLE = [path for path in CONFIGS if trainable(path)]
# The others are slow: one row of an ablation stands for all of them, three nano recipes for all trainings.
FIRST_ROWS = {min(path.parent.glob("*.yaml")) for path in CONFIGS if path.parent.name == "ablations"}
QUICK = [path for path in CONFIGS if path.parent.name != "ablations" and path not in TRAINABLE]
QUICK += [*FIRST_ROWS, *(ROOT / "configs" / name / "nano.yaml" for name in ("sam2long", "sslvos", "vqsam"))]


def quick(values: list) -> list:
    """Parameters, marked slow where the last file is not in ``QUICK``."""
    last = [value[-1] if isinstance(value, list) else value for value in values]
    return [
        pytest.param(value, marks=[pytest.mark.slow] * (path not in QUICK))
        for value, path in zip(values, last, strict=True)
    ]


def names(value: Any) -> str:
    paths = value if isinstance(value, list) else [value]
    return " + ".join(str(path.relative_to(ROOT / "configs")) for path in paths)


def test_there_are_configs() -> None:
    assert TRAINABLE


@pytest.mark.parametrize("paths", quick(CASES), ids=names)
def test_parses(paths: list[Path]) -> None:
    """For every verb that its data serve; what the last file says is what comes out."""
    data = content(paths[0])["data"]["init_args"]
    verbs = [verb for key, verb in VERBS.items() if data.get(key)]
    assert verbs
    for verb in verbs:
        settings = parse(verb, paths)
        last = content(paths[-1])
        for name, value in last.get("model", {}).get("init_args", {}).items():
            assert_says(settings.model.init_args[name], value)
        for name, value in last.get("trainer", {}).items():
            assert_says(settings.trainer[name], value)


def assert_says(got: Any, wanted: Any) -> None:
    """Equal, where a mapping may be filled up with defaults and a list may have become a tuple."""
    if isinstance(wanted, dict):
        for key, value in wanted.items():
            assert_says(got[key], value)
    elif isinstance(wanted, list):
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted, strict=True):
            assert_says(one, other)
    else:
        assert got == wanted


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS, ids=names)
def test_every_command_of_a_plan_parses(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    _, fits, tests = read_plan(plan)
    assert tests
    for step in [*fits, *tests]:
        with pytest.raises(Parsed):
            ParseOnly([step.verb, *step.arguments])


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data sets in which DAVIS has two sequences of four small frames."""
    root = tmp_path_factory.mktemp("data") / "DAVIS"
    clips = SyntheticClips("easy", length=2, frames=4, size=(48, 64), seed=3, objects=2)
    for index, split in enumerate(("train", "val")):
        video, name = clips[index], f"sequence{index}"
        frames = root / "JPEGImages" / "480p" / name
        frames.mkdir(parents=True)
        for time, frame in enumerate(video):
            Image.fromarray(frame.numpy()).save(frames / f"{time:05d}.jpg", quality=95)
            assert video.truth is not None
            masks = video.truth[time]
            labels = torch.zeros(48, 64, dtype=torch.uint8)
            for target, mask in zip(video.targets, masks, strict=True):
                labels[mask] = target
            write_label_map(root / "Annotations" / "480p" / name / f"{time:05d}.png", labels)
        for year in ("2016", "2017"):
            (root / "ImageSets" / year).mkdir(parents=True, exist_ok=True)
            (root / "ImageSets" / year / f"{split}.txt").write_text(f"{name}\n")
    return root.parent


def shortened(benchmarks: list[dict[str, Any]]) -> str:
    """The benchmarks of a config, generated ones with one short video."""
    for benchmark in benchmarks:
        if benchmark["class_path"].startswith("common.benchmarks.tiny.videos"):
            benchmark.setdefault("init_args", {}).update({"videos": 1, "frames": 3})
    return json.dumps(benchmarks)


@pytest.mark.slow  # 20 to 50 s each
@pytest.mark.parametrize("path", quick(TRAINABLE), ids=names)
def test_trains_and_tests(
    path: Path, miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two steps on short clips, then a video of each benchmark, with everything else as the file says."""
    monkeypatch.setenv("VIDSEG_DATA", str(miniature))
    data, model = (content(path)[key]["init_args"] for key in ("data", "model"))
    common = ["--config", str(path), "--trainer.accelerator=cpu", f"--trainer.default_root_dir={tmp_path}"]
    if model.get("weights") and not (model["weights"] == "nano" and NANO.is_file()):  # those of a run before this one
        common.append("--model.weights=random")
    frames = model.get("clip_length", 2)  # VQ-SAM refuses shorter clips
    small = ["--data.batch_size=1", "--data.clips_per_epoch=2", f"--data.frames={frames}", "--data.num_workers=0"]
    small += ["--trainer.max_steps=2", "--trainer.max_epochs=1", "--data.val=[]"]
    assert cli.main(["fit", *common, *small]) == 0, capsys.readouterr().err
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 2
    benchmarks = data.get("test") or data["val"]
    test = [f"--ckpt_path={checkpoint}", f"--data.test={shortened(benchmarks)}"]
    assert cli.main(["test", *common, *test]) == 0, capsys.readouterr().err
    records = list(tmp_path.glob("*/results.json"))
    assert len(records) == len(benchmarks)
    for record in records:
        main = next(iter(json.loads(record.read_text())["metrics"].values()))
        assert main is None or 0 <= main <= 100  # a category may have nothing to be found in one short video


@pytest.mark.slow
def test_two_processes_train_together(tmp_path: Path, repository: Path) -> None:
    """Batches of masks and batches of points use other parameters; plain ddp must take both."""
    flags = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    small = ["--trainer.max_steps", "4", "--data.clips_per_epoch", "16", "--data.batch_size", "2", "--data.val", "[]"]
    prompts = ["--model.prompting.points", "0.5", "--model.prompting.clicks", "1"]
    root = ["--trainer.default_root_dir", str(tmp_path)]
    config = ["--config", "configs/sam2long/nano_scratch.yaml"]
    command = [sys.executable, "cli.py", "fit", *config, *flags, *small, *prompts, *root]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()
