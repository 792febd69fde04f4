"""Every printed number is joined to a benchmark, a split and a metric of the suite, or listed as another."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.benchmarks.base import Benchmark
from common.benchmarks.registry import BENCHMARKS, make_benchmark
from common.errors import InputError
from common.leaderboard import collect
from common.leaderboard.collect import PublishedRow, published
from common.leaderboard.table import table
from common.records.record import ResultRecord

OTHER = yaml.safe_load(Path(collect.__file__).with_name("other_numbers.yaml").read_text())
DATA_SETS = {(entry["dataset"], entry["split"]) for entry in OTHER["data_sets"]}
# words of a protocol line that a paper's row may give, and the options that make it
PROTOCOLS: dict[str, dict[str, Any]] = {
    "": {},
    "flat mean over objects": {"average_seen_unseen": False},
    "mean of seen and unseen videos": {"average_seen_unseen": True},
    "J&F; all annotated frames": {"contours": True},
}


@cache
def benchmark(name: str, split: str, protocol: str) -> tuple[Benchmark, frozenset[str]]:
    """A benchmark, and the numbers that it reports or computes."""
    only = {} if make_benchmark(name).splits == (split,) else {"split": split}
    made = make_benchmark(name, **only, **PROTOCOLS[protocol])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nothing was measured
            return made, frozenset(made.numbers) | set(made.metric().compute())
    except InputError:  # its classes are in the data, which is not here
        return made, frozenset(made.numbers)


def fault(row: PublishedRow) -> str:
    """What keeps a row from being joined; empty if nothing does."""
    if row.benchmark not in BENCHMARKS:
        return f"benchmark {row.benchmark}"
    made, numbers = benchmark(row.benchmark, row.split, row.protocol)
    if row.split not in made.splits:
        return f"split {row.split} of {row.benchmark}"
    if row.protocol not in made.protocol:
        return f"protocol {row.protocol} of {row.benchmark}"
    if row.metric not in numbers and row.metric not in OTHER["quantities"]:
        return f"metric {row.metric} of {row.benchmark}"
    return ""


def test_every_row_has_a_place() -> None:
    rows = [row for row in published() if (row.benchmark, row.split) not in DATA_SETS]
    faults = {(row.paper, message) for row in rows if (message := fault(row))}
    assert faults == set()
    joined = [row for row in rows if row.metric not in OTHER["quantities"]]
    assert {row.paper for row in joined} == {"hqsmem", "sam2long", "sslvos", "univs", "vqsam"}
    assert len(joined) >= 1950  # of 2,106: the list of others stays short


def test_the_list_of_others_has_no_entry_that_the_suite_could_join() -> None:
    rows = published()
    assert {(row.benchmark, row.split) for row in rows} >= DATA_SETS
    assert {row.metric for row in rows} >= set(OTHER["quantities"])
    assert all(entry["name"] for entry in OTHER["data_sets"])
    for name, split in DATA_SETS & {(name, split) for name in BENCHMARKS for _, split in DATA_SETS}:
        assert split not in make_benchmark(name).splits


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (("lvos2", "valid", "J&F", ""), "benchmark lvos2"),
        (("mose", "val", "J&F", ""), "split val of mose"),
        (("ovis", "valid", "mAP", ""), "metric mAP of ovis"),
        (("mose", "valid", "J&F", ""), ""),
    ],
)
def test_a_name_of_another_convention_is_found(place: tuple[str, str, str, str], expected: str) -> None:
    name, split, metric, protocol = place
    row = PublishedRow("paper", "1", "A", "", name, split, metric, 1.0, protocol=protocol)
    assert fault(row) == expected


def test_the_two_scorers_of_lvos_stand_beside_the_runs_that_used_them() -> None:
    """SAM2Long's Table 1 has 85.3 on LVOS v2, its Table 3, by the authors' evaluator, 85.9."""
    flat, grouped = (benchmark("lvosv2", "valid", words)[0] for words in list(PROTOCOLS)[1:3])
    records = [
        ResultRecord(
            method="SAM2.1Long",
            variant=variant,
            benchmark="lvosv2",
            split="valid",
            metrics={"J&F": value},
            protocol=made.protocol,
            protocol_id=made.protocol_id({}),
        )
        for made, variant, value in ((flat, "Hiera-L", 0.86), (grouped, "as listed", 0.85))
    ]
    (grid,) = table(records, [row for row in published() if row.paper == "sam2long"], ["lvosv2"], ["SAM2.1Long"])
    first = 0 if records[0].protocol_id < records[1].protocol_id else 1  # columns are in the order of the ids
    columns = [n for n, (_, metric) in enumerate(grid.heads) if metric == "J&F"]
    found = {row.weights: [row.cells[n].text for n in columns] for row in grid.rows if row.published}
    assert found["sam2long, table 3"][1 - first] == "85.9"
    assert found["sam2long, table 3"][first] == found["sam2long, table 1"][1 - first] == ""
    texts = [row.cells[columns[first]].text for row in grid.rows if row.method == "SAM2.1Long Hiera-L †"]
    assert texts == ["85.3"]
    # without a run, one table for each
    titles = {grid.title for grid in table([], [row for row in published() if row.benchmark == "lvosv2"])}
    assert titles == {
        "Published: lvosv2 valid, flat mean over objects",
        "Published: lvosv2 valid, mean of seen and unseen videos",
    }
