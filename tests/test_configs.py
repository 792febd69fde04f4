"""Every YAML that the project ships goes through the real command line; the small ones also train and test."""

from __future__ import annotations

import copy
import functools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from PIL import Image

import cli
from common.checkpoints import find_weights
from common.cli.build import build_method
from common.cli.suite import SuiteCLI
from common.configs import ROWS, load_config, load_rows, split_row, with_rows
from common.errors import InputError
from common.leaderboard.paper_tables import is_table_plan, read_table_plan
from common.leaderboard.runner import read_plan
from common.segmenter import VideoSegmenter
from common.synthetic import SyntheticClips
from common.video import write_label_map

ROOT = Path(__file__).resolve().parents[1]
YAMLS = sorted((ROOT / "configs").rglob("*.yaml"))
PLANS = [path for path in YAMLS if "output" in yaml.safe_load(path.read_text())]
ROW_FILES = [path for path in YAMLS if path.name == ROWS]
CONFIGS = [path for path in YAMLS if path not in PLANS + ROW_FILES]
FRAMES = 6  # of the video of a generated benchmark
VERBS = {"train": "fit", "test": "test", "predict": "predict"}


@functools.cache
def content(path: Path) -> dict[str, Any]:
    """Read once, as collecting the tests asks for it hundreds of times; not to be changed."""
    return load_config(path)


def stands_alone(path: Path) -> bool:
    """Whether a file names a model and data; the others are given after one that does."""
    return {"model", "data"} <= content(path).keys()


def run_of(path: Path) -> list[Path]:
    """The configs to give, in order: a file that stands alone, or one after the base that it is named after or nano."""
    if stands_alone(path):
        return [path]
    bases = [base for base in path.parent.glob("*.yaml") if base.name != ROWS and stands_alone(base)]
    bases = [base for base in bases if path.stem.startswith(base.stem)]
    nano = [path.parent / "nano.yaml", ROOT / "configs" / "sam2long" / "nano.yaml"]
    return [(bases or [base for base in nano if base.is_file()])[0], path]


def runs_of_rows(file: Path) -> list[list[Path]]:
    """The configs of each row of a file, after each sequence of configs that the row may be given after."""
    return [
        [*(file.parent / f"{config}.yaml" for config in configs), Path(f"{file}:{name}")]
        for name, row in load_rows(file).items()
        for configs in row.after
    ]


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


# Each row after the first of its bases; test_a_row_differs_... has all of them.
ROW_CASES = [
    paths for file in ROW_FILES for paths in {str(paths[-1]): paths for paths in runs_of_rows(file)[::-1]}.values()
]
CASES = [run_of(path) for path in CONFIGS] + ROW_CASES
HERE = ("common.synthetic.", "common.benchmarks.davis.")  # sets that the tests have, or can make


def trainable(path: Path) -> bool:
    """Whether it trains, on sets that are here."""
    sets = content(path)["data"]["init_args"].get("train", []) if stands_alone(path) else []
    return bool(sets) and all(one["class_path"].startswith(HERE) for one in sets)


TRAINABLE = [path for path in CONFIGS if trainable(path)]
# The others are slow: one row of a method stands for all of them, three nano recipes for all trainings.
QUICK = [path for path in CONFIGS if path not in TRAINABLE] + [runs_of_rows(file)[0][-1] for file in ROW_FILES]
QUICK += [*(ROOT / "configs" / name / "nano.yaml" for name in ("sam2long", "sslvos", "vqsam"))]


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
    """For every verb that its data serve, a row for one; what the last file says is what comes out."""
    data = content(paths[0])["data"]["init_args"]
    verbs = [verb for key, verb in VERBS.items() if data.get(key)]
    assert verbs
    for verb in verbs[:1] if paths in ROW_CASES else verbs:
        settings = parse(verb, paths)
        last = content(paths[-1])
        for name, value in last.get("model", {}).get("init_args", {}).items():
            assert_says(settings.model.init_args[name], value)
        for name, value in last.get("trainer", {}).items():
            assert_says(settings.trainer[name], value)


def assert_says(settings: Any, config: Any) -> None:
    """Equal, where a mapping may be filled up with defaults and a list may have become a tuple."""
    if isinstance(config, dict):
        for key, value in config.items():
            assert_says(settings[key], value)
    elif isinstance(config, list):
        assert len(settings) == len(config)
        for one, other in zip(settings, config, strict=True):
            assert_says(one, other)
    else:
        assert settings == config


@functools.cache
def arguments(*configs: str) -> dict[str, Any]:
    """The constructor arguments by dotted name that configs (JSON) result in, as the command line merges them."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(VideoSegmenter, "model")
    words = [word for config in configs for word in ("--config", config)]
    return flat(parser.parse_args(words).as_dict()["model"]["init_args"])


def flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {key: leaf for part in value for key, leaf in flat(value[part], f"{name}.{part}".strip(".")).items()}


def model_of(*paths: Path) -> list[str]:
    return [json.dumps({"model": content(path)["model"]}) for path in paths if "model" in content(path)]


NAMED_ROWS = [
    pytest.param(file, name, id=f"{file.parent.name}:{name}") for file in ROW_FILES for name in load_rows(file)
]


@pytest.mark.parametrize(("file", "name"), NAMED_ROWS)
def test_a_row_differs_from_its_config_in_its_overrides_and_in_nothing_else(file: Path, name: str) -> None:
    """Every override changes a setting of one of the configs, at least, that the row may be given after."""
    row = load_rows(file)[name]
    overrides, effective = flat(row.model) if row.model else {}, set()
    for *configs, path in (paths for paths in runs_of_rows(file) if split_row(paths[-1])[1] == name):
        # An argument whose value is None stands for the default settings, which a row may change in part.
        defaults = {key: {} for key, value in row.model.items() if isinstance(value, dict)}
        base = model_of(*configs)
        base += [json.dumps({"model": content(path)["model"] | {"init_args": defaults}})] if defaults else []
        before, after = arguments(*base), arguments(*base, *model_of(path))
        changed = {key for key in before.keys() | after.keys() if before.get(key, ...) != after.get(key, ...)}
        assert changed <= overrides.keys()
        assert_says(after, overrides)
        effective |= changed
        contents = [content(config) for config in configs]
        for change, parts in (
            (row.data, [part.get("data", {}).get("init_args", {}) for part in contents]),
            (row.trainer, [part.get("trainer", {}) for part in contents]),
        ):
            merged = {option: value for part in parts for option, value in part.items()}
            assert all(merged.get(option, ...) != value for option, value in change.items())
    assert effective == overrides.keys()


@pytest.mark.parametrize("file", ROW_FILES, ids=lambda file: file.parent.name)
def test_a_row_is_named_after_a_table_of_the_paper(file: Path) -> None:
    paper = yaml.safe_load((ROOT / "methods" / file.parent.name / "paper.yaml").read_text())
    tables = {str(row["table"]) for row in paper["rows"]}
    for name, row in load_rows(file).items():
        kind, number = re.fullmatch(r"(table|supp|reading_eq)(A?\d+[ab]?)_.*", name).groups()
        wording = {"table": f"Table {number}", "supp": f"Supp. Table {number}", "reading_eq": f"Equation {number}"}[
            kind
        ]
        assert row.about.startswith(wording), name
        assert kind == "reading_eq" or number in tables or f"Supp. {number}" in tables, name


def test_a_method_is_built_from_a_row() -> None:
    folder = ROOT / "configs" / "sam2long"
    for row, variant in (("table5_p2", "nano, P=2"), ("table5_p3", "nano")):
        method = build_method("sam2long", None, [folder / "nano.yaml", folder / f"{ROWS}:{row}"])
        assert method.variant == variant


def test_an_unknown_row_is_answered_with_the_nearest() -> None:
    file = ROOT / "configs" / "sam2long" / ROWS
    with pytest.raises(InputError, match=r"rows\.yaml: no row 'table5_p22'; did you mean 'table5_p2'\?"):
        ParseOnly(["test", *flags([file.parent / "nano.yaml", Path(f"{file}:table5_p22")])])
    with pytest.raises(InputError, match=r"name one of its rows, e\.g\. .*rows\.yaml:table5_p1"):
        load_config(file)
    with pytest.raises(InputError, match="a file of rows has class_path, after and rows"):
        load_rows(ROOT / "configs" / "sam2long" / "nano.yaml")


def test_a_row_is_named_with_or_without_an_equals_sign(tmp_path: Path) -> None:
    (tmp_path / ROWS).write_text(
        "class_path: a.B\nafter: [nano]\nrows:\n  one: {model: {p: 2}}\n  bad: {settings: {}}\n"
    )
    with pytest.raises(InputError, match="row bad: its keys are about, after, data, model, trainer"):
        load_rows(tmp_path / ROWS)
    (tmp_path / ROWS).write_text(
        "class_path: a.B\nafter: [nano]\nrows:\n  one: {model: {p: 2}, trainer: {max_steps: 3}}\n"
    )
    row = f"{tmp_path / ROWS}:one"
    config = {
        "trainer": {"default_root_dir": f"runs/{tmp_path.name}_one", "max_steps": 3},
        "model": {"class_path": "a.B", "init_args": {"p": 2}},
    }
    assert load_config(row) == config
    spelled = with_rows(["fit", "--config", "x.yaml", "--config", row, f"--config={row}", "--other", row])
    assert spelled[:4] + spelled[6:] == ["fit", "--config", "x.yaml", "--config", "--other", row]
    assert json.loads(spelled[4]) == json.loads(spelled[5].removeprefix("--config=")) == config


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS, ids=names)
def test_every_command_of_a_plan_parses(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    if is_table_plan(plan):
        table = read_table_plan(plan, Path("checkpoints"))
        data = ["--data.test", json.dumps([place.config for place in table.places])]
        commands = [["test", *row.arguments, "--model.weights", str(row.weights), *data] for row in table.rows]
    else:
        _, fits, tests = read_plan(plan)
        commands = [[step.verb, *step.arguments] for step in [*fits, *tests]]
    assert commands
    for command in commands:
        with pytest.raises(Parsed):
            ParseOnly(command)


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
    short = copy.deepcopy(benchmarks)
    for benchmark in short:
        module, _, name = benchmark["class_path"].rpartition(".")
        if module == "common.benchmarks.tiny":
            length = {"frames": FRAMES} if name in ("Tiny", "TinyVOTS", "TinyVQS") else {}  # no option of the others
            benchmark.setdefault("init_args", {}).update({"videos": 1, **length})
    return json.dumps(short)


@pytest.mark.slow  # 3 to 12 s each
@pytest.mark.parametrize("path", quick(TRAINABLE), ids=names)
def test_trains_and_tests(
    path: Path, miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two steps on short clips, then a video of each benchmark, with everything else as the file says."""
    monkeypatch.setenv("VIDSEG_DATA", str(miniature))
    data, model = (content(path)[key]["init_args"] for key in ("data", "model"))
    common = ["--config", str(path), "--trainer.accelerator=cpu", f"--trainer.default_root_dir={tmp_path}"]
    if (
        model.get("weights", "nano") != "nano" and not find_weights(model["weights"]).exists()
    ):  # those of a run before this one
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
