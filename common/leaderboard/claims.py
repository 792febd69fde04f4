"""The papers' claims compared with measured records: one row a claim, with a verdict."""

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
from common.leaderboard.settings import by_settings, differences
from common.records.record import ResultRecord

Verdict = Literal["reproduced", "not reproduced", "inconclusive", "not measured"]
FIELDS = ("method", "variant", "weights_note")
# Student's t (two-sided 95 %) for 1, 2, 3, ... degrees of freedom; above, the normal distribution's 1.96 is used.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
NOTES = [
    "Ours: mean difference in percentage points over seeds that both have, ± half of its 95 % interval (Student's t).",
    "reproduced: the interval is on the paper's side of 0; not reproduced: on the other; inconclusive: 0 lies in it.",
]


RecordPair = tuple[ResultRecord, ResultRecord]


@dataclass(frozen=True)
class Claim:
    """One comparison that a paper makes.

    Attributes:
        method: name of the method's folder.
        text: the claim in words.
        paper: table and figures of the paper, e.g. ``table 7: 26.0 against 21.5``.
        difference: difference of the paper's figures, in its units; None where the paper has no figures.
        pair: values of ``FIELDS`` that select the records of the two sides, the better side first.
        benchmark: id of the benchmark of the records.
        number: name of the compared metric.
        sign: 1 where higher is better, -1 where lower is better.
    """

    method: str
    text: str
    paper: str
    difference: float | None
    pair: tuple[dict[str, str], dict[str, str]]
    benchmark: str
    number: str
    sign: int


@dataclass(frozen=True)
class Comparison:
    """The measured side of a claim.

    Attributes:
        differences: first side less second side in percent, one a seed.
        notes: for each side that was run with several settings, the settings that are compared.
    """

    differences: list[float]
    notes: list[str]


def claims(methods: str | Path = METHODS) -> list[Claim]:
    """Load the claims of all ``<methods>/*/claims.yaml``.

    Args:
        methods: folder with one folder a method.

    Raises:
        InputError: a file is not YAML or a claim lacks a key.
    """
    loaded = []
    for file in sorted(Path(methods).glob("*/claims.yaml")):
        try:
            loaded += [_claim(file.parent.name, entry) for entry in yaml.safe_load(file.read_text(encoding="utf-8"))]
        except yaml.YAMLError as error:
            raise InputError(f"{file}: not YAML ({' '.join(str(error).split())})") from error
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{file}: a claim needs claim, paper, compare, benchmark, number; trouble with {error}"
            ) from error
    return loaded


def claims_grid(claims: Sequence[Claim], records: Sequence[ResultRecord]) -> Grid:
    """Return the table of claims: the paper's figures, the measured difference with its interval, the verdict.

    Args:
        claims: one a row.
        records: records of runs.
    """
    rows, notes = [], list(NOTES)
    for claim in claims:
        comparison = compare(claim, records)
        mean, half, verdict = judge(claim, comparison.differences)
        seeds = len(comparison.differences)
        ours = "" if not seeds else f"{mean:+.1f} ± {half:.1f}" if seeds > 1 else f"{mean:+.1f}"
        cells = [claim.paper, f"{claim.benchmark} {claim.number}", ours, str(seeds), verdict]
        rows.append(Row(claim.text, claim.method, [Cell(text) for text in cells]))
        notes += [note for note in comparison.notes if note not in notes]
    heads = [("", head) for head in ("paper", "measured on", "ours", "seeds", "verdict")]
    return Grid("Claims", heads, rows, notes, ("claim", "method"))


def compare(claim: Claim, records: Sequence[ResultRecord]) -> Comparison:
    """Return the differences of a claim, one for each seed that both sides have under one protocol.

    The records of a side have one setting: of several settings, those with the most seeds in common with the other side
    are compared. Of several records of a seed, those with the same weights are taken, then the latest.

    Args:
        claim: the claim.
        records: records of runs, also of other methods and benchmarks.
    """
    sides = [list(by_settings([r for r in records if _fits(r, claim, side)]).values()) for side in claim.pair]
    best: list[RecordPair] = []
    compared: tuple[list[ResultRecord], ...] = ()
    for groups in product(*sides):
        pairs = _pairs(*groups)
        if (len(pairs), _latest(pairs)) > (len(best), _latest(best)):
            best, compared = pairs, groups
    notes = [_note(side, group) for side, group in zip(sides, compared, strict=False) if len(side) > 1]
    return Comparison([100 * (a.metrics[claim.number] - b.metrics[claim.number]) for a, b in best], notes)


def judge(claim: Claim, differences: Sequence[float]) -> tuple[float, float, Verdict]:
    """Return mean difference, half of its 95 % interval and the verdict.

    Args:
        claim: the claim, whose ``sign`` says which side of zero is the paper's.
        differences: in percent, one a seed; the interval of a single one is infinite.
    """
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


def _pairs(first: Sequence[ResultRecord], second: Sequence[ResultRecord]) -> list[RecordPair]:
    """Pair the records of two sides, one pair for each seed that both have under one protocol."""
    chosen: dict[int | None, RecordPair] = {}
    for pair in product(first, second):
        a, b = pair
        if a.seed == b.seed and a.protocol_id == b.protocol_id:
            chosen[a.seed] = max(chosen.get(a.seed, pair), pair, key=_rank)
    return list(chosen.values())


def _rank(pair: RecordPair) -> tuple[bool, str, str]:
    """Return a key that is largest for the pair to compare: same weights before others, then later before earlier."""
    a, b = pair
    return bool(a.weights_sha256) and a.weights_sha256 == b.weights_sha256, a.date, b.date


def _latest(pairs: Sequence[RecordPair]) -> str:
    return max((record.date for pair in pairs for record in pair), default="")


def _note(groups: Sequence[Sequence[ResultRecord]], compared: Sequence[ResultRecord]) -> str:
    """Say which of several settings of a side are compared."""
    record = compared[0]
    name = f"{record.method} {record.variant}".strip()
    described = dict(zip(map(id, groups), differences(groups), strict=True))
    mine, others = described.pop(id(compared)), "; ".join(described.values())
    return f"{name} on {record.benchmark}: compared are the runs with {mine}; other runs have {others}."


def _fits(record: ResultRecord, claim: Claim, side: dict[str, str]) -> bool:
    measured = record.benchmark == claim.benchmark and claim.number in record.metrics
    return measured and all(getattr(record, key) == value for key, value in side.items())


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
