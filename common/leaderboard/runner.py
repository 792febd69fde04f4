"""Run a plan: every row with every seed; what is done is not run again, and an interrupted run is continued.

A plan is YAML:

    output: runs/tiny          # folder of all runs
    seeds: [1, 2, 3]
    rows:
      sam2long:
        fit: --config configs/sam2long/nano.yaml --trainer.max_steps 300     # optional
        test: --config configs/sam2long/nano.yaml
      p2:
        weights_of: sam2long   # tested with the weights that this row trained
        test: --config configs/sam2long/nano.yaml --config configs/sam2long/rows.yaml:table5_p2
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.configs import load_config, split_row
from common.errors import InputError
from common.files import digest, folder_lock, write_text
from common.records.record import FILE

CLI = Path(__file__).resolve().parents[2] / "cli.py"
KEYS = {"fit", "test", "weights_of"}


@dataclass(frozen=True)
class Step:
    """One command of a plan.

    Attributes:
        verb: ``fit`` or ``test``.
        arguments: arguments after the verb, without seed, folder and checkpoint.
        seed: value of ``seed_everything``.
        folder: folder of the run.
        trained: folder of the training whose checkpoint is tested.
    """

    verb: str
    arguments: tuple[str, ...]
    seed: int
    folder: Path
    trained: Path | None = None

    @property
    def key(self) -> str:
        """A hash of the command and the content of its configs."""
        configs = [word for word in self.arguments if split_row(word)[0].suffix == ".yaml"]
        return digest(self.verb, self.arguments, self.seed, [_content(config) for config in configs])

    @property
    def done(self) -> bool:
        """Whether the folder holds the finished run of this command."""
        mark = self.folder / f".{self.verb}"
        complete = self.verb == "fit" or any(self.folder.rglob(FILE))
        return complete and mark.is_file() and mark.read_text(encoding="utf-8") == self.key

    def command(self) -> list[str]:
        """Return the command line; an interrupted training continues from its last checkpoint."""
        checkpoint = (self.folder if self.verb == "fit" else self.trained or self.folder) / "checkpoints" / "last.ckpt"
        from_checkpoint = self.trained is not None or (self.verb == "fit" and checkpoint.is_file())
        options = ["--trainer.default_root_dir", str(self.folder), "--seed_everything", str(self.seed)]
        options += ["--data.seed", str(self.seed)] if self.verb == "fit" else []  # each seed has its own clips
        options += ["--ckpt_path", str(checkpoint)] if from_checkpoint else []
        return [sys.executable, str(CLI), self.verb, *self.arguments, *options]

    def run(self) -> None:
        """Run the command if it is not done; its output goes to ``<folder>/<verb>.log``.

        Raises:
            InputError: the command failed, which names the log, or another process works in the folder.
        """
        if self.done:
            return
        print(f"{self.verb} {self.folder}", file=sys.stderr, flush=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / f"{self.verb}.log"
        with folder_lock(self.folder) as lock, log.open("a", encoding="utf-8") as file:
            # the command holds the lock too, in case that it outlives this process
            process = subprocess.run(self.command(), stdout=file, stderr=subprocess.STDOUT, pass_fds=(lock,))
        if process.returncode:
            output = log.read_text(encoding="utf-8").strip() or "no output"
            raise InputError(f"{self.folder}: {self.verb} failed ({output.splitlines()[-1][:200]}); see {log}")
        write_text(self.folder / f".{self.verb}", self.key)


def run_plan(path: Path, jobs: int = 1) -> Path:
    """Run every step that is not done.

    Args:
        path: the plan.
        jobs: number of steps that run at the same time.

    Returns:
        The folder with all records.

    Raises:
        InputError: the plan cannot be read, or a run failed; the other runs are completed first.
    """
    output, fits, tests = read_plan(path)
    run_steps(fits, tests, jobs)
    return output


def run_steps(fits: Sequence[Step], tests: Sequence[Step], jobs: int = 1) -> None:
    """Run every step that is not done, a test after its training.

    Args:
        fits: trainings.
        tests: tests.
        jobs: number of steps that run at the same time.

    Raises:
        InputError: a run failed; the other runs are completed first.
    """
    faults: list[str] = []
    with ThreadPoolExecutor(jobs) as pool:
        trainings = {step.folder: pool.submit(step.run) for step in fits}
        runs = [pool.submit(_after, trainings.get(step.trained) if step.trained else None, step) for step in tests]
        for future in [*trainings.values(), *runs]:
            try:
                future.result()
            except InputError as error:
                faults += [str(error)] if str(error) not in faults else []
    if faults:
        raise InputError("; ".join(faults))


def load_plan(path: Path) -> dict[str, Any]:
    """Load the YAML of a plan of any kind.

    Raises:
        InputError: the file cannot be read, or is no mapping with ``rows``.
    """
    try:
        plan = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(plan, dict) or not isinstance(plan.get("rows"), dict):
        raise InputError(f"{path}: a plan has output, seeds and rows")
    return plan


def read_plan(path: Path) -> tuple[Path, list[Step], list[Step]]:
    """Load a plan.

    Args:
        path: the plan.

    Returns:
        Its output folder, its trainings and its tests.

    Raises:
        InputError: the file is not YAML or has an unknown key, or ``weights_of`` names no row with ``fit``.
    """
    plan = load_plan(path)
    if set(plan) != {"output", "seeds", "rows"}:
        raise InputError(f"{path}: a plan has output, seeds and rows")
    output, fits, tests = Path(plan["output"]), [], []
    for name, row in plan["rows"].items():
        if not isinstance(row, dict) or "test" not in row or set(row) - KEYS:
            raise InputError(f"{path}: row {name}: it has test, and may have fit or weights_of")
        source = row.get("weights_of", name)
        if "weights_of" in row and "fit" not in plan["rows"].get(source, {}):
            raise InputError(f"{path}: row {name}: weights_of {source}, which is no row with fit")
        for seed in plan["seeds"]:
            folder = output / f"{name}_seed{seed}"
            trained = output / f"{source}_seed{seed}" / "train" if "fit" in row or "weights_of" in row else None
            fits += [Step("fit", _words(row["fit"]), seed, folder / "train")] if "fit" in row else []
            tests.append(Step("test", _words(row["test"]), seed, folder, trained))
    return output, fits, tests


def _words(command: str) -> tuple[str, ...]:
    return tuple(shlex.split(command))


def _content(config: str) -> str | dict[str, Any]:
    """Return what a run takes from a config: the text of a file, or the settings of a row."""
    file, row = split_row(config)
    if row:
        return load_config(config)
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _after(training: Future[None] | None, step: Step) -> None:
    """Run a step after a training; where the training failed, its error is raised."""
    if training is not None:
        training.result()
    step.run()
