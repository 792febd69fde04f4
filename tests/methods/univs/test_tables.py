"""Rows of Table 3 and the names that their records carry; claims against the paper's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from common.configs import load_config, load_rows
from methods.univs import UniVS
from methods.univs.module import _variant
from methods.univs.settings import InferenceSettings, TrainingSettings, preset

ROOT = Path(__file__).resolve().parents[3]
ROWS = yaml.safe_load((ROOT / "methods/univs/paper.yaml").read_text())["rows"]
CLAIMS = yaml.safe_load((ROOT / "methods/univs/claims.yaml").read_text())
NAMES = {
    "nano.yaml": "nano",
    "rows.yaml:table3a_proca": "nano",
    "rows.yaml:table3a_prompts": "nano, proca=false",
    "rows.yaml:table3a_queries": "nano, proca=false, prompts=false, tracking=similarity",
    "rows.yaml:table3b_prompts": "nano",
    "rows.yaml:table3b_similarity": "nano, tracking=similarity",
    "rows.yaml:table3b_stage3": "nano, stage=3",
}
STAGE_2 = {"prompt_as_query": True, "proca": True, "stage3": False}
# what the settings of a row in print are called here
PRINTED = {
    "nano": STAGE_2,
    "nano, proca=false": STAGE_2 | {"proca": False},
    "nano, proca=false, prompts=false, tracking=similarity": STAGE_2 | {"prompt_as_query": False, "proca": False},
    "nano, tracking=similarity": STAGE_2 | {"tracker": "similarity"},
    "nano, stage=3": STAGE_2 | {"stage3": True},
}
DATA = {"tiny-vis": "ytvis2021", "tiny-vps": "vipseg", "tiny-easy": "youtubevos2018", "tiny-ref": "refyoutubevos"}
METRICS = {"tiny-vis": "AP", "tiny-easy": "G"}


@pytest.mark.parametrize("config", NAMES)
def test_records_of_a_row_are_told_apart_by_name(config: str) -> None:
    arguments = load_config(ROOT / "configs/univs" / config)["model"]["init_args"]
    recipe, inference = arguments.get("recipe", {}), arguments.get("inference", {})
    module = UniVS(
        proca=arguments.get("proca"),
        recipe=TrainingSettings(**recipe),
        inference=InferenceSettings(**inference),
    )
    assert (module.method_name, module.variant) == ("UniVS", NAMES[config])


def test_a_published_networks_name_is_the_papers() -> None:
    assert _variant(preset("swin-tiny"), TrainingSettings(clip=5), InferenceSettings()) == "Swin-T"
    changed = preset("nano", queries=8, self_attention="all")
    assert _variant(changed, TrainingSettings(), InferenceSettings()) == "nano, queries=8, self_attention=all"


def test_every_config_of_table_3_is_one_of_these() -> None:
    rows = load_rows(ROOT / "configs/univs/rows.yaml")
    assert {f"rows.yaml:{row}" for row in rows} == NAMES.keys() - {"nano.yaml"}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim['claim']}, {claim['number']} {claim['benchmark']}")
def test_a_claim_is_in_print(claim: dict[str, Any]) -> None:
    metric = METRICS.get(claim["benchmark"], claim["number"])
    wanted = {"table": claim["paper"]["table"], "dataset": DATA[claim["benchmark"]], "metric": metric}
    figures = []
    for side in claim["compare"]:
        settings = PRINTED[side["variant"]]
        if claim["paper"]["table"] == "3b":
            settings = {"tracker": "VS->P"} | settings
        (row,) = [row for row in ROWS if row.get("settings") == settings and wanted.items() <= row.items()]
        figures.append(row["value"])
    assert claim["paper"]["figures"] == figures
    assert claim["difference"] == pytest.approx(figures[0] - figures[1])
    assert claim["direction"] == "higher"
