"""Rows of Table 3 and the names that their records carry; claims against the paper's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from methods.univs import UniVS
from methods.univs.inference import InferenceSettings
from methods.univs.training import TrainingSettings

ROOT = Path(__file__).resolve().parents[2]
ROWS = yaml.safe_load((ROOT / "methods/univs/paper.yaml").read_text())["rows"]
CLAIMS = yaml.safe_load((ROOT / "methods/univs/claims.yaml").read_text())
NAMES = {
    "nano": "nano",
    "ablations/table3a_proca": "nano",
    "ablations/table3a_prompts": "nano, proca=false",
    "ablations/table3a_queries": "nano, proca=false, prompts=false, tracking=similarity",
    "ablations/table3b_prompts": "nano",
    "ablations/table3b_similarity": "nano, tracking=similarity",
    "ablations/table3b_stage3": "nano, stage=3",
}
PRINTED = {"AP": "mAP", "STQ": "STQ", "VPQ": "VPQ", "J&F": ("G_th", "J&F")}


@pytest.mark.parametrize("config", NAMES)
def test_records_of_a_row_are_told_apart_by_name(config: str) -> None:
    given = yaml.safe_load((ROOT / "configs/univs" / f"{config}.yaml").read_text())["model"]["init_args"]
    recipe, inference = given.get("recipe", {}), given.get("inference", {})
    module = UniVS(
        proca=given.get("proca"),
        recipe=TrainingSettings(**recipe),
        inference=InferenceSettings(**inference),
    )
    assert (module.method_name, module.variant) == ("UniVS", NAMES[config])


def test_a_published_networks_name_is_the_papers() -> None:
    assert UniVS(backbone="swin-tiny", recipe=TrainingSettings(clip=5)).variant == "Swin-T"
    assert UniVS(queries=8, self_attention="all").variant == "nano, queries=8, self_attention=all"


def test_every_config_of_table_3_is_one_of_these() -> None:
    files = (ROOT / "configs/univs/ablations").iterdir()
    assert {f"ablations/{file.stem}" for file in files} == NAMES.keys() - {"nano"}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim['claim']}, {claim['number']} {claim['benchmark']}")
def test_a_claim_is_in_print(claim: dict[str, Any]) -> None:
    rows = [
        row for row in ROWS if row["table"] == claim["paper"]["table"] and row["metric"] in PRINTED[claim["number"]]
    ]
    ours, other = claim["paper"]["figures"]
    assert {ours, other} <= {row["value"] for row in rows}
    assert claim["difference"] == pytest.approx(ours - other)
    assert claim["direction"] == "higher"
    assert {side["variant"] for side in claim["compare"]} <= set(NAMES.values())
