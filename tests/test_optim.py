"""Schedules and parameter groups, held against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from common import optim
from methods.sslvos import SSLVOS
from methods.univs import UniVS


def factors(steps: list[int], **options: Any) -> list[float]:
    """The factor on a rate of 1 at some steps."""
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], **options.pop("group", {})}], lr=1.0)
    schedule, found = optim.schedule(optimizer, **options), []
    for _ in range(max(steps) + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return [found[step] for step in steps]


def test_cosine() -> None:
    found = factors([0, 1, 3, 4, 7, 10, 12], kind="cosine", warmup_steps=4, total_steps=10, final_fraction=0.1)
    half = 0.1 + 0.9 * 0.5  # step 7 is half way from 4 to 10
    assert found == pytest.approx([1 / 5, 2 / 5, 4 / 5, 1, half, 0.1, 0.1])


def test_milestones_multiply_the_peak_and_not_the_warm_up() -> None:
    """The warm-up ends at the full rate, whatever the milestones; lr / 100 for ever was a fault."""
    found = factors([0, 50, 99, 299, 300, 399, 400], kind="milestones", warmup_steps=99, milestones=[300, 400])
    assert found == pytest.approx([0.01, 0.51, 1, 1, 0.1, 0.1, 0.01])
    assert factors([0, 1, 2], kind="milestones", milestones=[1], gamma=0.5) == [1, 0.5, 0.5]


def test_poly() -> None:
    """2e-4 to 1e-5 over 100 steps, 5 of warm-up; published: 1 - k / (K + 1), K without the warm-up."""
    found = factors([0, 1, 5, 53, 100], kind="poly", warmup_steps=5, total_steps=100, final_fraction=0.05)
    middle, last = 0.05 + 0.95 * 0.5**0.9, 0.05 + 0.95 * (1 / 96) ** 0.9  # 48 and 95 of 96
    assert found == pytest.approx([0.05, 0.05 + 0.95 / 5, 1, middle, last])


def test_options_of_a_group() -> None:
    poly: dict[str, Any] = {"kind": "poly", "total_steps": 9, "final_fraction": 0.2, "power": 1.0}
    # without options 0.2 + 0.8 (1 - k / 10): 1, 0.92, ..., 0.52 at 6
    assert factors([0, 6], **poly) == pytest.approx([1.0, 0.52])
    assert factors([0, 6], group={"rate_scale": 0.5}, **poly) == pytest.approx([0.6, 0.36])
    assert factors([0, 4, 5], group={"frozen_from": 0.5}, **poly) == pytest.approx([1.0, 0.68, 0.0])


@pytest.mark.parametrize("kind", ["cosine", "poly"])
def test_without_an_end_the_rate_stays(kind: optim.Decay) -> None:
    assert factors([0, 2, 50], kind=kind, total_steps=math.inf) == [1, 1, 1]


@pytest.mark.parametrize("method", [SSLVOS, UniVS])
def test_methods_with_milestones_and_warm_up_reach_the_full_rate(method: Any) -> None:
    """SSLVOS stayed at lr / (warm-up + 1)."""
    chosen = method(weights="random", lr=1e-4, warmup_steps=3, milestones=[6]).configure_optimizers()
    peak = []
    for _ in range(8):
        peak.append(max(group["lr"] for group in chosen["optimizer"].param_groups))
        chosen["optimizer"].step()
        chosen["lr_scheduler"]["scheduler"].step()
    assert peak == pytest.approx([2.5e-5, 5e-5, 7.5e-5, 1e-4, 1e-4, 1e-4, 1e-5, 1e-5])


def test_groups() -> None:
    module = nn.ModuleDict({"a": nn.Linear(2, 2), "query": nn.Embedding(3, 2)})
    groups = optim.parameter_groups(module, 1.0, 0.5, lambda name: 0.1 if name.startswith("a.") else 1.0, "^query")
    found = {tuple(p.shape): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert found == {(2, 2): (0.1, 0.5), (2,): (0.1, 0.0), (3, 2): (1.0, 0.0)}
    parts = optim.parameter_groups(module, 1.0, 0.0, part=lambda name: name.split(".")[0])
    assert [(group["part"], len(group["params"])) for group in parts] == [("a", 2), ("query", 1)]
