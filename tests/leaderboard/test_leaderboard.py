"""The table of known records, and what must never be mixed in it."""

import json
import math
from pathlib import Path

import pytest

from common.benchmarks.registry import BENCHMARKS, make_benchmark
from common.errors import InputError
from common.leaderboard.collect import METHODS, PublishedRow, collect, published
from common.leaderboard.command import main
from common.leaderboard.grid import headline
from common.leaderboard.render import markdown, terminal
from common.leaderboard.table import table
from common.records.record import ResultRecord

PAPER = [
    PublishedRow("sam2long", "1", "SAM2Long", "Hiera-T", "sav", "val", "J&F", 77.0),
    PublishedRow("sam2long", "9", "SAM2Long", "Hiera-T", "davis2016", "val", "J&F", 90.25, doubtful=True),
]


def record(method: str = "SAM2", jandf: float = 0.5, **changes: object) -> ResultRecord:
    values = {
        "method": method,
        "variant": "nano",
        "benchmark": "davis2016",
        "split": "val",
        "metrics": {"J&F": jandf, "J": jandf - 0.1, "F": jandf + 0.1, "J_recall": 1.0},
        "protocol": "J&F, first and last dropped",
        "protocol_id": "p1",
        "weights_note": "ours nano",
        "seed": 1,
    }
    return ResultRecord(**{**values, **changes})


def test_known_records_make_the_expected_table() -> None:
    records = [
        record("SAM2", 0.5, frames_per_second=20.0, peak_memory_mb=900.4),
        record("SAM2Long", 0.6, frames_per_second=10.0, seed=1),
        record("SAM2Long", 0.62, frames_per_second=12.0, seed=2, date="2026-01-01"),
        record("SAM2Long", 0.1, frames_per_second=99.0, seed=2, date="2025-01-01"),  # made again later
        record("CopyFirstMask", 0.61234, variant="", weights_note="none", benchmark="tiny-easy", split="test"),
    ]
    expected = """\
### Measured

| method | weights / paper | davis2016 val J&F | davis2016 val J | davis2016 val F | tiny-easy test J&F | tiny-easy test J | tiny-easy test F | frames/s | peak MB |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| SAM2Long nano | ours nano | **61.0 ± 1.4** | **51.0 ± 1.4** | **71.0 ± 1.4** |  |  |  | 11.0 |  |
| SAM2 nano | ours nano | _50.0_ | _40.0_ | _60.0_ |  |  |  | 20.0 | 900 |
| CopyFirstMask | none |  |  |  | 61.2 | 51.2 | 71.2 |  |  |
| SAM2Long Hiera-T † | sam2long, table 9 | 90.25? |  |  |  |  |  |  |  |

- davis2016 val: J&F, first and last dropped.
- tiny-easy test: J&F, first and last dropped.
- Metrics in percent, ± over seeds; frames/s: mean, peak MB: highest over a row's runs.
- nano: a few million parameters, trained here; it says little about the published network.
- † as printed in the paper, not measured here.

### Published: sav val

| method | weights / paper | J&F |
| --- | --- | ---: |
| SAM2Long Hiera-T † | sam2long, table 1 | 77.0 |

- † as printed in the paper, not measured here.
"""  # noqa: E501
    assert markdown(table(records, PAPER)) == expected


def test_other_protocols_stand_in_columns_of_their_own() -> None:
    videos = {"bear": {"J": 1.0}}
    (grid,) = table([record("A", 0.5), record("B", 0.9, protocol_id="p2", protocol="one video", videos=videos)])
    assert [head for head in grid.heads if "J&F" in head] == [
        ("davis2016 val [1]", "J&F"),
        ("davis2016 val [2]", "J&F"),
    ]
    assert [[cell.text for cell in row.cells[:6:3]] for row in grid.rows] == [["50.0", ""], ["", "90.0"]]
    assert not any(cell.best for row in grid.rows for cell in row.cells)
    assert "davis2016 val [2]: one video (1 videos)." in grid.notes
    assert any("must not be compared" in note for note in grid.notes)


def test_other_weights_are_another_row() -> None:
    (grid,) = table([record(seed=1), record(seed=2, weights_note="published")])
    assert [row.weights for row in grid.rows] == ["ours nano", "published"]
    assert [row.cells[0].text for row in grid.rows] == ["50.0", "50.0"]


def test_other_settings_are_another_row_and_a_note_says_what_differs() -> None:
    def run(seed: int, note: str = "trained here", **options: object) -> ResultRecord:
        return record(seed=seed, weights_note=note, config={"model": {"init_args": options}, "precision": "32-true"})

    # paths of weights, predictions and options without a value are not compared
    same = [run(1, lr=0.1, weights="a.pt", mask=None), run(2, lr=0.1, weights="b.pt", save_predictions=True)]
    (grid,) = table(same)
    assert [row.cells[0].text for row in grid.rows] == ["50.0 ± 0.0"]
    assert not any("settings" in note for note in grid.notes)
    (grid,) = table([*same, run(1, lr=0.2, memory={"size": 3})])
    assert [(row.method, row.cells[0].text) for row in grid.rows] == [
        ("SAM2 nano (a)", "50.0 ± 0.0"),
        ("SAM2 nano (b)", "50.0"),
    ]
    assert (
        "SAM2 nano: runs whose settings differ are rows of their own: (a) lr=0.1; (b) lr=0.2, memory.size=3."
        in grid.notes
    )
    # what was not trained does not depend on the optimiser
    assert len(table([run(1, "published", lr=0.1), run(2, "published", lr=0.2)])[0].rows) == 1
    # one row has other settings on other benchmarks, as long as no cell mixes them
    elsewhere = run(1, lr=0.2)
    elsewhere.benchmark = "tiny-easy"
    assert [row.method for row in table([*same, elsewhere])[0].rows] == ["SAM2 nano"]


def test_a_benchmark_without_jandf_shows_its_own_metrics_and_nan_is_never_best() -> None:
    grids = table([record("A", metrics={"Q": 0.4, "A": float("nan")}), record("B", metrics={"Q": 0.3, "A": 0.2})])
    assert grids[0].heads[:2] == [("davis2016 val", "A"), ("davis2016 val", "Q")]
    assert [[(cell.text, cell.best) for cell in row.cells[:2]] for row in grids[0].rows] == [
        [("20.0", False), ("30.0", False)],
        [("undefined", False), ("40.0", True)],
    ]


def test_filters() -> None:
    records = [record("SAM2"), record("SAM2Long"), record("Other", benchmark="tiny-easy")]
    assert [row.method for grid in table(records, method=["sam2l"]) for row in grid.rows] == ["SAM2Long nano"]
    assert [row.method for grid in table(records, PAPER, ["tiny-easy"]) for row in grid.rows] == ["Other nano"]
    assert table(records, benchmark=["sav"]) == []


def test_the_papers_numbers_are_there() -> None:
    rows = published()
    assert {row.paper for row in rows} >= {"sam2long"}
    values = {
        row.value
        for row in rows
        if (row.method, row.variant, row.benchmark, row.split, row.metric)
        == ("SAM2Long", "Hiera-T", "sav", "val", "J&F")
    }
    assert values == {77.0}
    assert all(row.table and row.value == row.value for row in rows)
    assert len(rows) == sum(file.read_text().count("value:") for file in METHODS.glob("*/paper.yaml"))


@pytest.mark.parametrize("text", ["paper: {id: x}\nrows:\n  - {table: 1}\n", "rows: [", "- 1\n"])
def test_a_broken_paper_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "paper.yaml").write_text(text)
    with pytest.raises(InputError, match=r"x/paper\.yaml: ") as caught:
        published(tmp_path)
    assert "\n" not in str(caught.value)


def test_records_are_found_once_below_folders(tmp_path: Path) -> None:
    record("A").write(tmp_path / "a" / "deep")
    path = record("B").write(tmp_path / "b")
    assert [r.method for r in collect([tmp_path, path, tmp_path / "a"])] == ["A", "B"]
    with pytest.raises(InputError, match="nowhere: no such"):
        collect([tmp_path / "nowhere"])
    path.write_text("{")
    with pytest.raises(InputError, match=r"b/results\.json: the record is damaged"):
        collect([tmp_path])


def test_records_one_a_line_make_the_same_table_as_run_folders(tmp_path: Path) -> None:
    record("B", 0.5, metrics={"J&F": 1 / 3, "J": math.nan, "F": 1e-7 / 3}, frames_per_second=1 / 3).write(
        tmp_path / "b"
    )
    record("A", 0.6, config={"model": {"init_args": {"lr": 1 / 3}}}).write(tmp_path / "a")
    lines = tmp_path / "lines" / "plan.jsonl"
    assert main([str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(lines)]) == 0
    first, second = lines.read_text().splitlines()
    assert list(json.loads(first)) == sorted(json.loads(first))
    assert json.loads(second)["metrics"] == {"J&F": 0.333333, "J": None, "F": 3.33333e-08}
    folders, read = collect([tmp_path / "a", tmp_path / "b"]), collect([lines.parent])
    assert [r.path for r in read] == [f"{lines}#L1", f"{lines}#L2"]
    assert [(r.config_hash, r.frames_per_second) for r in read] == [
        (r.config_hash, r.frames_per_second) for r in folders
    ]
    assert markdown(table(read)) == markdown(table(folders))
    assert collect([lines, lines.parent]) == read
    lines.write_text(f"{first}\n\n{second[:-1]}\n")
    with pytest.raises(InputError, match=r"plan\.jsonl#L3: the record is damaged"):
        collect([lines])


def test_command_prints_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="runs: no results to show"):
        main([])
    assert main(["--papers", "--method", "SAM2Long", "--benchmark", "sav"]) == 0
    assert "77.0" in capsys.readouterr().out
    record("SAM2Long", 0.6).write(Path("runs/one"))
    assert main(["--output", "out/table.md"]) == 0
    printed = capsys.readouterr().out
    assert "SAM2Long nano" in printed
    assert "60.0" in printed
    assert "| --- |" not in printed
    assert Path("out/table.md").read_text().startswith("### Measured\n")
    assert main(["runs", "--format", "markdown", "--output", "table.txt"]) == 0
    assert capsys.readouterr().out == Path("out/table.md").read_text()
    assert "60.0" in Path("table.txt").read_text()
    assert "\x1b" not in Path("table.txt").read_text()


def test_terminal_shows_names_with_brackets_as_they_are() -> None:
    grids = table([record("A[bold]"), record("B", protocol_id="p2")], PAPER)
    text = terminal(grids, plain=True)
    assert "A[bold] nano" in text
    assert "val [2] J&F" in text
    assert "SAM2Long Hiera-T †" in text


def test_what_is_too_wide_becomes_one_table_for_each_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    presets = [f"tiny-{name}" for name in ("easy", "occlusion", "distractor", "reappear")]
    grids = table([record("SAM2Long", benchmark=b, frames_per_second=9.0) for b in presets] + [record("Other")])
    monkeypatch.setattr("common.leaderboard.render.WIDTH", 400)
    assert terminal(grids, plain=True).count("SAM2Long nano") == 1
    monkeypatch.setattr("common.leaderboard.render.WIDTH", 80)
    text = terminal(grids, plain=True)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert text.count("SAM2Long nano") == 4 + 1  # and the table of the cost
    assert text.count("Measured: tiny-reappear val") == text.count("Metrics in percent") == 1
    assert text.count("Other nano") == 1


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_table_shows_the_main_number_of_every_benchmark_and_no_crowd(name: str) -> None:
    benchmark = make_benchmark(name)
    try:
        metric = benchmark.metric()
    except InputError:  # what is a thing, or common, is said by the data, which is not here
        columns = headline(set(benchmark.numbers))
    else:
        with pytest.warns(UserWarning, match="before the ``update``"):
            columns = headline(set(metric.compute()))
    assert benchmark.numbers[0] in columns
    assert len(columns) <= 12
