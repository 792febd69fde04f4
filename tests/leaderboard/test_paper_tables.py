"""Plans of a paper's tables: what is missing, what is run, and what stands beside the printed numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from common.configs import load_config, split_row
from common.errors import InputError
from common.leaderboard.collect import published
from common.leaderboard.command import main
from common.leaderboard.paper_tables import read_table_plan, run_table, table_grid
from common.records.record import ResultRecord

ROOT = Path(__file__).resolve().parents[2]
PLANS = sorted(p for p in (ROOT / "configs/leaderboards").glob("*.yaml") if "\ntable: " in p.read_text())
NUMBER = {"table": 7, "dataset": "tiny-easy", "split": "test", "metric": "J&F"}


@pytest.fixture(autouse=True)
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIDSEG_DATA", raising=False)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A plan of two rows on a generated set and on one that is not there, and the paper's numbers below ``methods``."""
    (tmp_path / "methods/toy").mkdir(parents=True)
    rows = [NUMBER | {"method": "Toy", "variant": v, "value": n} for v, n in (("a", 61.5), ("b", 40.0))]
    rows.append(rows[0] | {"dataset": "mose", "split": "valid", "value": 12.5})
    paper = {"paper": {"id": "toy"}, "rows": rows}
    (tmp_path / "methods/toy/paper.yaml").write_text(yaml.safe_dump(paper))
    config = tmp_path / "toy.yaml"
    config.write_text(yaml.safe_dump({"trainer": {"accelerator": "cpu", "logger": False}}))
    command = f"--config {config} --model tests.support.toy.Toy"
    published_as = {"method": "Toy", "variant": "a"}
    content = {
        "output": str(tmp_path / "runs"),
        "paper": "toy",
        "table": "7",
        "data": [
            {"benchmark": "tiny-easy", "videos": 2, "frames": 5, "size": [32, 32]},
            {"benchmark": "mose", "split": "valid"},
        ],
        "rows": {
            "here": {"test": f"{command} --model.weights random", "published": published_as},
            "absent": {"test": command, "weights": "b.pt", "published": published_as | {"variant": "b"}},
        },
    }
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_what_is_there_is_run_and_what_is_not_is_named(tmp_path: Path, plan: Path) -> None:
    table = read_table_plan(plan, tmp_path)
    steps = table.steps()
    assert list(steps) == [("here", 0)]
    assert steps["here", 0].arguments[-2] == "--data.test"
    (tmp_path / "b.pt").touch()
    again = read_table_plan(plan, tmp_path).steps()
    assert list(again) == [("here", 0), ("absent", 0)]
    assert again["absent", 0].arguments[-4:-2] == ("--model.weights", str(tmp_path / "b.pt"))


def test_measured_numbers_stand_beside_the_printed_ones(tmp_path: Path, plan: Path) -> None:
    table = read_table_plan(plan, tmp_path)
    steps = table.steps()
    ResultRecord(method="Toy", benchmark="tiny-easy", split="test", metrics={"J&F": 0.5}).write(
        steps["here", 0].folder / "tiny-easy-test"
    )
    grid = table_grid(table, steps, published(tmp_path / "methods"))
    assert grid.heads == [
        *(("tiny-easy test", head) for head in ("J&F", "J&F †", "J&F − †")),
        *(("mose valid", head) for head in ("J&F", "J&F †", "J&F − †")),
    ]
    assert [[cell.text for cell in row.cells] for row in grid.rows] == [
        ["50.0", "61.5", "-11.5", "", "12.5", ""],
        ["", "40.0", "", "", "", ""],
    ]


@pytest.mark.slow
def test_a_plan_is_run_once(tmp_path: Path, plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grids, fault = run_table(plan, tmp_path, methods=tmp_path / "methods")
    assert fault is None
    missing, table = grids
    assert [(row.method, row.weights) for row in missing.rows] == [("mose valid", "data"), ("b.pt", "weights")]
    assert "below $VIDSEG_DATA" in missing.rows[0].cells[0].text
    assert str(tmp_path / "b.pt") in missing.rows[1].cells[0].text
    ours, paper, gap = (cell.text for cell in table.rows[0].cells[:3])
    assert paper == "61.5"
    assert float(gap) == pytest.approx(float(ours) - 61.5, abs=0.06)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("run again"))
    assert run_table(plan, tmp_path, methods=tmp_path / "methods")[0][1].rows == table.rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": [1]}, "a plan of a table has data, output, paper, rows, table"),
        ({"rows": {"x": {"test": ""}}}, "row x: it has test and published"),
        ({"data": [{"benchmark": "mosse"}]}, "did you mean mose"),
    ],
)
def test_a_wrong_plan_is_one_line(plan: Path, change: dict[str, object], message: str) -> None:
    plan.write_text(yaml.safe_dump(yaml.safe_load(plan.read_text()) | change))
    with pytest.raises(InputError, match=message) as caught:
        main(["--run", str(plan)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_every_committed_plan_names_configs_that_exist_and_rows_in_print(path: Path, tmp_path: Path) -> None:
    plan = read_table_plan(path, tmp_path)
    numbers = [row for row in published() if row.paper == plan.paper]
    assert not plan.steps()
    assert all(place.missing for place in plan.places)
    for row in plan.rows:
        words = row.arguments
        configs = [words[n + 1] for n, word in enumerate(words) if word == "--config"]
        assert configs
        for config in configs:
            assert (ROOT / split_row(config)[0]).is_file()
            load_config(f"{ROOT}/{config}")
        printed = {
            (number.benchmark, number.split)
            for number in numbers
            if all(getattr(number, key) == value for key, value in row.published.items())
        }
        assert printed & {(place.name, place.split) for place in plan.places}, row.name


def test_all_tables_of_sam2long_have_a_plan() -> None:
    assert {path.stem for path in PLANS} >= {f"sam2long_table{number}" for number in range(1, 9)}
