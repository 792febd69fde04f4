"""Rows of the paper's tables against the configs that stand for them, and claims against their numbers."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.configs import Row, load_rows
from common.leaderboard.collect import collect

ROOT = Path(__file__).resolve().parents[3]
PAPER = yaml.safe_load((ROOT / "configs/vqsam/paper.yaml").read_text())["model"]["init_args"]
ROWS = yaml.safe_load((ROOT / "methods/vqsam/paper.yaml").read_text())["rows"]
CONFIG_ROWS = load_rows(ROOT / "configs/vqsam/rows.yaml")
ABLATIONS = ("5", "6", "7", "8", "9", "10", "12")


def of_row(settings: dict[str, Any]) -> dict[str, Any]:
    """Arguments that a row's settings mean, beside the paper's own."""
    out: dict[str, Any] = {"stages": settings.get("stages", 2), "fusion": settings.get("fusion", "adaptive")}
    out["targets"] = settings.get("k_target", 2) * settings.get("tfg", True)
    out["distractors"] = settings.get("k_distractor", 1) * settings.get("dfg", True)
    out["stt_layers"] = 2 * settings.get("stt", True)
    if "lambda_1" in settings:
        out["stage_weights"] = [settings["lambda_1"], settings["lambda_2"]]
    return out


def of_config(row: Row) -> dict[str, Any]:
    """Return the same of a row after the paper's config; λ of the paper's table on λ only."""
    arguments = {"stt_layers": 2} | PAPER | row.model
    names = ["stages", "fusion", "targets", "distractors", "stt_layers"]
    names += ["stage_weights"] if row.about.startswith("Table 12") else []
    return {name: arguments[name] for name in names}


@pytest.mark.parametrize("table", ABLATIONS)
def test_every_row_of_an_ablation_has_one_config_and_every_config_a_row(table: str) -> None:
    rows = [row["settings"] for row in ROWS if row["table"] == table and row["metric"] == "stAP"]
    configs = [row for name, row in CONFIG_ROWS.items() if name.startswith(f"table{table}_")]
    printed, configured = (
        [sorted(one.items(), key=str) for one in both] for both in (map(of_row, rows), map(of_config, configs))
    )
    assert sorted(printed, key=str) == sorted(configured, key=str)


def test_no_other_ablations() -> None:
    assert {name.split("_")[0] for name in CONFIG_ROWS} == {f"table{table}" for table in ABLATIONS}


CLAIMS = yaml.safe_load((ROOT / "methods/vqsam/claims.yaml").read_text())


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim['claim']}, {claim['number']} {claim['benchmark']}")
def test_a_claim_is_in_print(claim: dict[str, Any]) -> None:
    rows = [row for row in ROWS if row["table"] == claim["paper"]["table"] and row["metric"] == claim["number"]]
    ours, other = claim["paper"]["figures"]
    assert ours in {row["value"] for row in rows if row["method"] == "VQ-SAM"}
    assert other in {row["value"] for row in rows}
    assert claim["difference"] == pytest.approx(ours - other)
    assert claim["direction"] == "higher"


def test_claims_are_about_records_that_are_there() -> None:
    """Of the paper's settings three seeds, of what they are compared with some of these."""
    seeds: dict[Any, set[int]] = defaultdict(set)
    for record in collect([ROOT / "results/vqsam.jsonl"]):
        seeds[record.benchmark, record.method, record.variant, record.weights_note].add(record.seed)
    for claim in CLAIMS:
        ours, other = (
            seeds[claim["benchmark"], side["method"], side["variant"], side["weights_note"]]
            for side in claim["compare"]
        )
        assert ours >= {1, 2, 3}, claim
        assert other, claim
        assert other <= ours, claim
