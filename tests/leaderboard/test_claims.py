"""Claims of the papers against records: by hand, and those of the suite."""

import math
from pathlib import Path

import pytest

from common.errors import InputError
from common.leaderboard.claims import claims, claims_grid, compare, judge
from common.leaderboard.collect import collect
from common.leaderboard.command import RESULTS, main
from common.records.record import ResultRecord

CLAIM = """
- claim: "A beats B"
  paper: {table: "3", figures: [26.0, 12.9]}
  compare: [{method: A, variant: nano}, {method: B}]
  benchmark: tiny
  number: Q
  direction: %s
  difference: 13.1
"""


def folder(tmp_path: Path, text: str) -> Path:
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "claims.yaml").write_text(text)
    return tmp_path


def record(
    method: str, value: float, seed: int, protocol: str = "p", date: str = "", weights: str = "", **options: object
) -> ResultRecord:
    config = {"model": {"init_args": options}}
    result = ResultRecord(method, "tiny", "test", {"Q": value}, "nano", protocol_id=protocol, seed=seed, date=date)
    result.config, result.weights_sha256 = config, weights
    return result


def test_interval_and_verdict_by_hand(tmp_path: Path) -> None:
    (claim,) = claims(folder(tmp_path, CLAIM % "higher"))
    pairs = [(0.50, 0.44), (0.52, 0.45), (0.54, 0.46)]  # differences 6, 7, 8: mean 7, deviation 1
    records = [record(m, v, seed) for seed, pair in enumerate(pairs) for m, v in zip("AB", pair, strict=True)]
    differences = compare(claim, records).differences
    assert differences == pytest.approx([6, 7, 8])
    mean, half, verdict = judge(claim, differences)
    assert (mean, half, verdict) == (pytest.approx(7), pytest.approx(4.303 / math.sqrt(3)), "reproduced")
    (row,) = claims_grid([claim], records).rows
    cells = ["table 3: 26 against 12.9", "tiny Q", "+7.0 ± 2.5", "3", "reproduced"]
    assert [cell.text for cell in row.cells] == cells


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([], "not measured"),
        ([9.0], "inconclusive"),
        ([-6.0, -7.0, -8.0], "not reproduced"),
        ([1.0, -1.0, 0.5], "inconclusive"),
        ([0.0, 0.0], "inconclusive"),
    ],
)
def test_verdicts(tmp_path: Path, differences: list[float], verdict: str) -> None:
    (claim,) = claims(folder(tmp_path, CLAIM % "higher"))
    assert judge(claim, differences)[2] == verdict


def test_where_lower_is_better(tmp_path: Path) -> None:
    (claim,) = claims(folder(tmp_path, CLAIM % "lower"))
    assert judge(claim, [-6.0, -7.0, -8.0])[2] == "reproduced"


def test_only_the_last_record_of_a_seed_under_one_protocol_counts(tmp_path: Path) -> None:
    (claim,) = claims(folder(tmp_path, CLAIM % "higher"))
    records = [
        record("A", 0.9, 1, date="2026-01-01"),
        record("A", 0.5, 1, date="2026-02-01"),
        record("B", 0.4, 1),
        record("A", 0.9, 2),
        record("B", 0.4, 2, protocol="other"),
        record("A", 0.9, 3),
    ]
    assert compare(claim, records).differences == pytest.approx([10])


def test_records_of_one_network_are_compared_rather_than_later_ones(tmp_path: Path) -> None:
    (claim,) = claims(folder(tmp_path, CLAIM % "higher"))
    records = [
        record("A", 0.5, 1, date="2026-01-01", weights="x"),
        record("A", 0.9, 1, date="2026-02-01", weights="y"),
        record("B", 0.4, 1, date="2026-01-01", weights="x"),
    ]
    assert compare(claim, records).differences == pytest.approx([10])


def test_of_runs_with_several_settings_those_with_the_most_seeds_are_compared_and_a_note_says_so(
    tmp_path: Path,
) -> None:
    (claim,) = claims(folder(tmp_path, CLAIM % "higher"))
    records = [record("A", 0.5, seed, queries=8) for seed in (1, 2)] + [record("B", 0.4, seed) for seed in (1, 2)]
    records.append(record("A", 0.9, 1, date="2026-02-01", queries=32))  # a later run of seed 1 with other settings
    grid = claims_grid([claim], records)
    assert [cell.text for cell in grid.rows[0].cells][2:4] == ["+10.0 ± 0.0", "2"]
    assert grid.notes[-1] == "A nano on tiny: compared are the runs with queries=8; other runs have queries=32."
    assert len(claims_grid([claim], records[:-1]).notes) == len(grid.notes) - 1


@pytest.mark.parametrize(
    "text", ["- {claim: x}", "[", "- {claim: x, paper: {table: 1}, compare: [{model: a}, {method: b}]}"]
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"some.claims\.yaml"):
        claims(folder(tmp_path, text))


def test_every_claim_of_the_suite_names_records_that_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    records = collect([RESULTS])
    unmeasured = [claim.text for claim in claims() if not compare(claim, records).differences]
    assert not unmeasured
    assert main(["--claims"]) == 0
    assert "verdict" in capsys.readouterr().out


def test_only_the_claims_that_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--claims", "--method", "sam2long", "--benchmark", "tiny-long", "--format", "csv"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    expected = [claim.text for claim in claims() if (claim.method, claim.benchmark) == ("sam2long", "tiny-long")]
    assert {line.split(",")[1] for line in lines} == set(expected)
    with pytest.raises(InputError, match="--benchmark no-such: unknown; known are davis2016, "):
        main(["--claims", "--benchmark", "no-such"])
