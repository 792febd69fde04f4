"""The same table in every format, and what must survive it."""

import csv
import io
import json
from pathlib import Path

from benchmarks.compare_tables import differences
from common.leaderboard.collect import PublishedRow, collect
from common.leaderboard.command import main
from common.leaderboard.formats import _no_formula, csv_text, html, json_text, latex
from common.leaderboard.render import markdown
from common.leaderboard.table import table
from tests.leaderboard.test_leaderboard import record

PAPER = [
    PublishedRow("sam2long", "1", "SAM2", "nano", "davis2016", "val", "J&F", 48.5),
    PublishedRow("sam2long", "1", "Rival <1>", "as listed", "davis2016", "val", "J&F", 90.0),
]


def grids(tmp_path: Path) -> list:
    record("SAM2", 0.5, parameters=2_000_000, gflops=1.25).write(tmp_path / "a")
    record("SAM2Long", 0.6).write(tmp_path / "b")
    record("SAM2Long", 0.61, seed=2).write(tmp_path / "c")
    return table(collect([tmp_path]), PAPER)


def test_difference_to_the_paper_stands_beside_and_never_in_the_cell(tmp_path: Path) -> None:
    (grid,) = grids(tmp_path)
    assert [head[1] for head in grid.heads] == ["J&F", "J&F − paper", "J", "F", "params M", "GFLOP/frame"]
    texts = {row.method: [cell.text for cell in row.cells] for row in grid.rows}
    assert texts["SAM2 nano"] == ["50.0", "+1.5", "40.0", "60.0", "2.00", "1.25"]
    assert texts["SAM2Long nano"][:2] == ["60.5 ± 0.7", ""]
    assert texts["SAM2 nano †"][:2] == ["48.5", ""]


def test_json_and_csv_lead_to_the_records(tmp_path: Path) -> None:
    made = grids(tmp_path)
    (grid,) = json.loads(json_text(made))
    best = grid["rows"][0]["cells"][0]
    assert best["best"]
    assert best["records"] == [str(tmp_path / name / "results.json") for name in "bc"]
    rows = list(csv.DictReader(io.StringIO(csv_text(made))))
    line = next(row for row in rows if row["method"] == "SAM2 nano" and row["number"] == "J&F")
    assert (line["value"], line["published"], line["on"]) == ("50.0", "False", "davis2016 val")
    assert line["records"] == str(tmp_path / "a" / "results.json")


def test_no_cell_of_a_csv_is_a_formula() -> None:
    words = ["=cmd|' /C calc'!A0", "@SUM(1)", "+1+1", "-2+3", "\t=1", "-0.5", "+3", "SAM 2"]
    made = ["'=cmd|' /C calc'!A0", "'@SUM(1)", "'+1+1", "'-2+3", "'\t=1", "-0.5", "+3", "SAM 2"]
    assert [_no_formula(word) for word in words] == made


def test_two_tables_are_compared_but_for_the_paths_of_records(tmp_path: Path) -> None:
    before, after = (json.loads(json_text(grids(tmp_path / name))) for name in ("one", "two"))
    assert list(differences(before, after)) == []
    after[0]["rows"][1]["cells"][0]["text"] = "50.1"
    assert list(differences(before, after)) == ['[0: Measured].rows[1: SAM2 nano].cells[0].text: "50.0" -> "50.1"']
    assert list(differences(before, [*after, {}])) == [": list of 1 -> list of 2"]


def test_html_links_from_its_folder_and_escapes(tmp_path: Path) -> None:
    made = grids(tmp_path)
    text = html(made, tmp_path)
    assert text.startswith("<!doctype html>")
    assert html(made * 2, tmp_path).count("<details") == 1  # the first is open
    assert '<a href="a/results.json"><u>50.0</u></a>' in text
    assert '<b>60.5 ± 0.7</b><sup><a href="b/results.json">1</a></sup>' in text
    assert "Rival &lt;1&gt;" in text


def test_a_number_leads_to_the_line_of_its_record(tmp_path: Path) -> None:
    grids(tmp_path)
    lines = tmp_path / "results #1" / "plan.jsonl"
    assert main([str(tmp_path), "--output", str(lines)]) == 0
    made = table(collect([lines]))
    assert '<a href="../results%20%231/plan.jsonl#L1"><u>50.0</u></a>' in html(made, tmp_path / "docs")
    text = markdown(made, tmp_path / "docs")
    assert "_[50.0](../results%20%231/plan.jsonl#L1)_" in text
    assert "**60.5 ± 0.7** [1](../results%20%231/plan.jsonl#L2) [2](../results%20%231/plan.jsonl#L3)" in text


def test_latex_escapes_and_marks(tmp_path: Path) -> None:
    text = latex(grids(tmp_path))
    assert r"SAM2 nano & ours nano & \underline{50.0} & +1.5" in text
    assert r"\textbf{60.5 $\pm$ 0.7}" in text
    assert r"J\&F $-$ paper" in text
    assert text.count(r"\midrule") == 2


def test_the_name_of_the_file_is_its_format(tmp_path: Path) -> None:
    grids(tmp_path)
    for name, sign in (
        ("t.md", "| --- |"),
        ("t.html", "<table>"),
        ("t.tex", r"\toprule"),
        ("t.json", '"best"'),
        ("t.txt", "┃"),
    ):
        assert main([str(tmp_path), "--format", "csv", "--output", str(tmp_path / name)]) == 0
        assert sign in (tmp_path / name).read_text(encoding="utf-8")
