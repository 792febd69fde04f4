"""What the papers claim, held against records: one row a claim, with a verdict."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import yaml

from common.errors import InputError
from common.leaderboard.collect import METHODS
from common.leaderboard.grid import Cell, Grid, Row
from common.records.record import ResultRecord

Verdict = Literal["reproduced", "not reproduced", "inconclusive", "not measured"]
FIELDS = ("method", "variant", "weights_note")
# Student's t, two-sided 95 %, for 1, 2, 3, ... degrees of freedom; beyond, the normal distribution's.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
NOTES = [
    "Ours: mean difference in percentage points over seeds that both have, ± half of its 95 % interval (Student's t).",
    "reproduced: the interval is on the paper's side of 0; not reproduced: on the other; inconclusive: 0 lies in it.",
]


@dataclass(frozen=True)
class Claim:
    """One comparison that a paper makes.

    Attributes:
        method: folder of the method.
        text: what is claimed.
        paper: what the paper says, e.g. ``table 7: 26.0 against 21.5``.
        difference: the paper's, in its own units; None where it prints none.
        pair: what the two sides' records have in ``FIELDS``, the better one first.
        benchmark, number: where and what.
        sign: 1 where higher is better, -1 where lower is.
    """

    method: str
    text: str
    paper: str
    difference: float | None
    pair: tuple[dict[str, str], dict[str, str]]
    benchmark: str
    number: str
    sign: int


def claims(methods: str | Path = METHODS) -> list[Claim]:
    """All claims in ``<methods>/*/claims.yaml``.

    Raises:
        InputError: a file is not YAML or a claim lacks a key.
    """
    found = []
    for file in sorted(Path(methods).glob("*/claims.yaml")):
        try:
            found += [_claim(file.parent.name, entry) for entry in yaml.safe_load(file.read_text(encoding="utf-8"))]
        except yaml.YAMLError as error:
            raise InputError(f"{file}: not YAML ({' '.join(str(error).split())})") from error
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{file}: a claim needs claim, paper, compare, benchmark, number; trouble with {error}"
            ) from error
    return found


def claims_grid(found: Sequence[Claim], records: Sequence[ResultRecord]) -> Grid:
    """Claim, the paper's figures, ours with its interval over seeds, verdict."""
    rows = []
    for claim in found:
        differences = by_seed(claim, records)
        mean, half, verdict = judge(claim, differences)
        ours = "" if not differences else f"{mean:+.1f} ± {half:.1f}" if len(differences) > 1 else f"{mean:+.1f}"
        where = f"{claim.benchmark} {claim.number}"
        cells = [claim.paper, where, ours, str(len(differences)), verdict]
        rows.append(Row(claim.text, claim.method, [Cell(text) for text in cells]))
    heads = [("", head) for head in ("paper", "measured on", "ours", "seeds", "verdict")]
    return Grid("Claims", heads, rows, NOTES, ("claim", "method"))


def by_seed(claim: Claim, records: Sequence[ResultRecord]) -> list[float]:
    """The first side less the second, in percent, for each seed that both have under one protocol.

    Of several records of a seed those that share their weights are taken, then the last ones.
    """
    first, second = ([r for r in records if _fits(r, claim, side)] for side in claim.pair)
    chosen: dict[int | None, tuple[ResultRecord, ResultRecord]] = {}
    for pair in product(first, second):
        a, b = pair
        if a.seed == b.seed and a.protocol_id == b.protocol_id:
            chosen[a.seed] = max(chosen.get(a.seed, pair), pair, key=_standing)
    return [100 * (a.metrics[claim.number] - b.metrics[claim.number]) for a, b in chosen.values()]


def _standing(pair: tuple[ResultRecord, ResultRecord]) -> tuple[bool, str, str]:
    a, b = pair
    return bool(a.weights_sha256) and a.weights_sha256 == b.weights_sha256, a.date, b.date


def judge(claim: Claim, differences: Sequence[float]) -> tuple[float, float, Verdict]:
    """Mean, half of its 95 % interval (infinite for one seed) and what follows."""
    if not differences:
        return math.nan, math.nan, "not measured"
    mean, count = statistics.fmean(differences), len(differences)
    if count == 1:
        return mean, math.inf, "inconclusive"
    student = STUDENT[count - 2] if count - 2 < len(STUDENT) else 1.96
    half = student * statistics.stdev(differences) / math.sqrt(count)
    if abs(mean) <= half or mean == 0:
        return mean, half, "inconclusive"
    return mean, half, "reproduced" if claim.sign * mean > 0 else "not reproduced"


def _fits(record: ResultRecord, claim: Claim, side: dict[str, str]) -> bool:
    there = record.benchmark == claim.benchmark and claim.number in record.metrics
    return there and all(getattr(record, key) == value for key, value in side.items())


def _claim(method: str, entry: dict[str, Any]) -> Claim:
    first, second = (_side(side) for side in entry["compare"])
    figures = [f"{figure:g}" for figure in entry["paper"].get("figures", ())]
    paper = f"table {entry['paper']['table']}" + (f": {' against '.join(figures)}" if figures else "")
    difference = entry.get("difference")
    return Claim(
        method,
        entry["claim"],
        paper,
        None if difference is None else float(difference),
        (first, second),
        entry["benchmark"],
        entry["number"],
        {"higher": 1, "lower": -1}[entry.get("direction", "higher")],
    )


def _side(side: dict[str, str]) -> dict[str, str]:
    if not side or set(side) - set(FIELDS):
        raise ValueError(f"compare: {side}; its keys are {', '.join(FIELDS)}")
    return {key: str(value) for key, value in side.items()}
