"""Runs what is missing of a plan: every row, every seed; goes on where it was interrupted.

A plan is YAML:

    output: runs/tiny          # where everything goes
    seeds: [1, 2, 3]
    rows:
      sam2long:
        fit: --config configs/sam2long/nano.yaml --trainer.max_steps 300     # optional
        test: --config configs/sam2long/nano.yaml
      sam2:
        weights_of: sam2long   # tested with what that row trained
        test: --config configs/sam2long/nano.yaml --config configs/sam2long/sam2.yaml
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.errors import InputError
from common.files import digest, write_text
from common.records.record import FILE

CLI = Path(__file__).resolve().parents[2] / "cli.py"
KEYS = {"fit", "test", "weights_of"}


@dataclass(frozen=True)
class Step:
    """One command of a plan and the folder that it fills.

    Attributes:
        verb: ``fit`` or ``test``.
        arguments: what follows the verb, but for the seed, the folder and the checkpoint.
        seed: of ``seed_everything``.
        folder: of the run.
        trained: folder of the training whose checkpoint is tested.
    """

    verb: str
    arguments: tuple[str, ...]
    seed: int
    folder: Path
    trained: Path | None = None

    @property
    def key(self) -> str:
        """Changes with the command and with what its config files say."""
        files = [path for path in map(Path, self.arguments) if path.suffix == ".yaml" and path.is_file()]
        return digest(self.verb, self.arguments, self.seed, [path.read_text(encoding="utf-8") for path in files])

    @property
    def done(self) -> bool:
        """Whether this very command has ended well here."""
        mark = self.folder / f".{self.verb}"
        kept = self.verb == "fit" or any(self.folder.rglob(FILE))
        return kept and mark.is_file() and mark.read_text(encoding="utf-8") == self.key

    def command(self) -> list[str]:
        """The command line; a training that was interrupted goes on from its last checkpoint."""
        checkpoint = (self.folder if self.verb == "fit" else self.trained or self.folder) / "checkpoints" / "last.ckpt"
        given = self.trained is not None or (self.verb == "fit" and checkpoint.is_file())
        where = ["--trainer.default_root_dir", str(self.folder), "--seed_everything", str(self.seed)]
        where += ["--data.seed", str(self.seed)] if self.verb == "fit" else []  # a seed's clips, too, are its own
        flags = ["--ckpt_path", str(checkpoint)] if given else []
        return [sys.executable, str(CLI), self.verb, *self.arguments, *where, *flags]

    def run(self) -> None:
        """Run it if it is not done; its words go to ``<folder>/<verb>.log``.

        Raises:
            InputError: it failed; names the log.
        """
        if self.done:
            return
        print(f"{self.verb} {self.folder}", file=sys.stderr, flush=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / f"{self.verb}.log"
        with log.open("w", encoding="utf-8") as file:
            done = subprocess.run(self.command(), stdout=file, stderr=subprocess.STDOUT)
        if done.returncode:
            said = log.read_text(encoding="utf-8").strip() or "nothing said"
            raise InputError(f"{self.folder}: {self.verb} failed ({said.splitlines()[-1][:200]}); see {log}")
        write_text(self.folder / f".{self.verb}", self.key)


def run_plan(path: Path, jobs: int = 1) -> Path:
    """Run every step that is not done.

    Args:
        jobs: at a time.

    Returns:
        The folder with all records.

    Raises:
        InputError: a plan that cannot be read, or runs that failed; the others are done all the same.
    """
    output, fits, tests = read_plan(path)
    faults: list[str] = []
    with ThreadPoolExecutor(jobs) as pool:
        trained = {step.folder: pool.submit(step.run) for step in fits}
        measured = [pool.submit(_after, trained.get(step.trained) if step.trained else None, step) for step in tests]
        for future in [*trained.values(), *measured]:
            try:
                future.result()
            except InputError as error:
                faults += [str(error)] if str(error) not in faults else []
    if faults:
        raise InputError("; ".join(faults))
    return output


def read_plan(path: Path) -> tuple[Path, list[Step], list[Step]]:
    """Folder, trainings and tests of a plan.

    Raises:
        InputError: not YAML, or a key or row that is not known.
    """
    try:
        plan = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(plan, dict) or set(plan) != {"output", "seeds", "rows"}:
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


def _words(command: Any) -> tuple[str, ...]:
    return tuple(shlex.split(str(command)))


def _after(first: Future | None, step: Step) -> None:
    if first is not None:
        first.result()
    step.run()
