"""Run the rows of a paper's table as far as data and weights are there, and show them beside the printed numbers.

A plan of a table is YAML:

    output: runs/sam2long_table4
    paper: sam2long                  # folder of the method whose paper.yaml has the numbers
    table: "4"
    data:                            # benchmarks of the registry with their constructor arguments
      - {benchmark: mose, split: valid}
    rows:
      sam2.1long:
        test: --config configs/sam2long/paper.yaml
        weights: sam2.1_hiera_large.pt            # a file in the folder that --weights names
        published: {method: SAM2.1Long, variant: Hiera-L}
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from common.errors import InputError
from common.leaderboard.collect import METHODS, PublishedRow, collect, published
from common.leaderboard.grid import MARK, MARK_NOTE, Cell, Grid, Row
from common.leaderboard.runner import Step, load_plan, run_steps
from common.records.record import FILE

KEYS = {"output", "paper", "table", "data", "rows"}
ROW_KEYS = {"test", "weights", "published"}


@dataclass(frozen=True)
class Place:
    """A benchmark of a plan.

    Attributes:
        name: id of the benchmark.
        split: its split.
        protocol: its protocol line.
        numbers: the metrics that it reports.
        config: class path and constructor arguments, as in a config.
        missing: what keeps it from being read, with where to put the data; empty if nothing does.
    """

    name: str
    split: str
    protocol: str
    numbers: tuple[str, ...]
    config: dict[str, Any] = field(hash=False)
    missing: str = ""


@dataclass(frozen=True)
class PlanRow:
    """A row of a plan.

    Attributes:
        name: name of the row in the plan.
        arguments: arguments of the verb ``test``, without data and weights.
        weights: the file of the weights; None if the arguments name them.
        published: ``table``, ``method`` and ``variant`` of the row in print.
    """

    name: str
    arguments: tuple[str, ...]
    weights: Path | None
    published: dict[str, str] = field(hash=False)


@dataclass(frozen=True)
class TablePlan:
    """A plan of a table: every row on every data set."""

    output: Path
    paper: str
    table: str
    places: list[Place]
    rows: list[PlanRow]

    def steps(self) -> dict[tuple[str, int], Step]:
        """Return the tests whose data and weights are there, by name of the row and number of the data set."""
        out = {}
        for row in self.rows:
            for number, place in enumerate(self.places):
                if place.missing or (row.weights and not row.weights.is_file()):
                    continue
                weights = ("--model.weights", str(row.weights)) if row.weights else ()
                arguments = (*row.arguments, *weights, "--data.test", json.dumps([place.config]))
                folder = self.output / row.name / f"{number + 1}_{place.name}_{place.split}"
                out[row.name, number] = Step("test", arguments, 1, folder)
        return out


def is_table_plan(path: Path) -> bool:
    """Return whether a plan is one of a paper's table."""
    return "table" in load_plan(path)


def run_table(
    path: Path, weights: Path, jobs: int = 1, methods: Path = METHODS
) -> tuple[list[Grid], InputError | None]:
    """Run what is not done and can be run.

    Args:
        path: the plan.
        weights: folder of the files of weights.
        jobs: number of runs at the same time.
        methods: folder of the methods, which have the printed numbers.

    Returns:
        What is missing, if anything is, and the table; and the error of the runs that failed.

    Raises:
        InputError: the plan is wrong.
    """
    plan = read_table_plan(path, weights)
    steps, missing, fault = plan.steps(), missing_grid(plan, methods), None
    try:
        run_steps([], list(steps.values()), jobs)
    except InputError as error:
        fault = error
    return [*([missing] if missing.rows else []), table_grid(plan, steps, published(methods))], fault


def read_table_plan(path: Path, weights: Path) -> TablePlan:
    """Load a plan of a table.

    Args:
        path: the plan.
        weights: folder of the files of weights.

    Raises:
        InputError: a key is missing or unknown, or a benchmark does not exist.
    """
    plan = load_plan(path)
    if set(plan) != KEYS:
        raise InputError(f"{path}: a plan of a table has {', '.join(sorted(KEYS))}")
    rows = []
    for name, row in plan["rows"].items():
        if not isinstance(row, dict) or not {"test", "published"} <= set(row) <= ROW_KEYS:
            raise InputError(f"{path}: row {name}: it has test and published, and may have weights")
        file = weights / row["weights"] if "weights" in row else None
        printed = {"table": str(plan["table"])} | {key: str(value) for key, value in row["published"].items()}
        rows.append(PlanRow(name, tuple(shlex.split(row["test"])), file, printed))
    places = [_place(dict(entry)) for entry in plan["data"]]
    return TablePlan(Path(plan["output"]), str(plan["paper"]), str(plan["table"]), places, rows)


def missing_grid(plan: TablePlan, methods: Path = METHODS) -> Grid:
    """Return the data and the weights that are not there, with where they come from and where to put them.

    Args:
        plan: the plan.
        methods: folder of the methods, whose ``weights.yaml`` say where files come from.
    """
    rows = [Row(f"{place.name} {place.split}", "data", [Cell(place.missing)]) for place in plan.places if place.missing]
    sources = _sources(methods / plan.paper / "weights.yaml")
    files = dict.fromkeys(row.weights for row in plan.rows if row.weights and not row.weights.is_file())
    for file in files:
        users = ", ".join(row.name for row in plan.rows if row.weights == file)
        known = sources.get(file.name)
        how = f"get it from {known}" if known else f"not published, it is a checkpoint of a training of {users}"
        rows.append(Row(file.name, "weights", [Cell(f"{file} not found: {how}")]))
    title = f"Missing for table {plan.table} of {plan.paper}"
    return Grid(title, [("", "where to put it")], rows, leading=("what", "kind"))


def table_grid(plan: TablePlan, steps: dict[tuple[str, int], Step], numbers: Sequence[PublishedRow]) -> Grid:
    """Return the table: of each data set and metric the measured number, the printed one and the difference.

    Args:
        plan: the plan.
        steps: its runs.
        numbers: numbers of papers.
    """
    numbers = [row for row in numbers if row.paper == plan.paper]
    tables = {row.published["table"] for row in plan.rows}
    columns = []
    for number, place in enumerate(plan.places):
        fits = [row for row in numbers if row.table in tables and _fits(row, place)]
        in_print = {row.metric for row in fits}
        columns += [(number, metric) for metric in place.numbers if metric in in_print]
    rows = []
    for row in plan.rows:
        cells = []
        for number, metric in columns:
            step, place = steps.get((row.name, number)), plan.places[number]
            records = collect([step.folder]) if step and step.folder.is_dir() else []
            values = [100 * record.metrics[metric] for record in records if metric in record.metrics]
            wanted = {**row.published, "metric": metric}
            printed = [p for p in numbers if _fits(p, place) and all(getattr(p, k) == v for k, v in wanted.items())]
            paper = f"{printed[0].value:.1f}" + "?" * printed[0].doubtful if printed else ""
            ours = f"{values[-1]:.1f}" if values else ""
            gap = f"{values[-1] - printed[0].value:+.1f}" if values and printed else ""
            cells += [Cell(ours, records=tuple(r.path for r in records if r.path)), Cell(paper), Cell(gap)]
        label = row.weights.name if row.weights else ""
        rows.append(Row(f"{row.published['method']} {row.published['variant']}", label, cells))
    heads = []
    for number, metric in columns:
        place = plan.places[number]
        at = f"{place.name} {place.split}" + f" [{number + 1}]" * (_names(plan).count((place.name, place.split)) > 1)
        heads += [(at, metric), (at, f"{metric} {MARK}"), (at, f"{metric} − {MARK}")]
    notes = [f"{place.name} {place.split}: {place.protocol}." for place in plan.places]
    hidden = [step.folder for step in steps.values() if step.folder.is_dir() and not any(step.folder.rglob(FILE))]
    notes += [f"{folder}: no record, as where annotations are hidden; its predictions are there." for folder in hidden]
    return Grid(f"Table {plan.table} of {plan.paper}", heads, rows, [*notes, MARK_NOTE], ("row", "weights"))


def _names(plan: TablePlan) -> list[tuple[str, str]]:
    return [(place.name, place.split) for place in plan.places]


def _fits(row: PublishedRow, place: Place) -> bool:
    return (row.benchmark, row.split) == (place.name, place.split) and row.protocol in place.protocol


def _place(entry: dict[str, Any]) -> Place:
    """Construct a benchmark of a plan, and try to list its videos."""
    from common.benchmarks.registry import BENCHMARKS, benchmark_class  # imports torch

    name = str(entry.pop("benchmark", ""))
    cls = benchmark_class(name)
    options = {**BENCHMARKS[name][1], **entry}
    made, missing = cls(**options), ""
    try:
        made.ids  # noqa: B018  # reads the list of videos
    except InputError as error:
        missing = str(error)
    config = {"class_path": f"{cls.__module__}.{cls.__name__}", "init_args": options}
    return Place(name, made.split, made.protocol, made.numbers, config, missing)


def _sources(file: Path) -> dict[str, str]:
    """Return where the files of a ``weights.yaml`` come from, by name."""
    entries = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else []
    return {Path(entry["file"]).name: str(entry["source"]) for entry in entries}
