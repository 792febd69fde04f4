"""The verb ``speed``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import cli
from common.nn import timing
from common.nn.timing import PartClock, measured_by, part


def test_time_inside_an_inner_part_counts_there_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outer part from 1 to 11 s, the inner one from 3 to 6 s; then the inner one alone from 20 to 21 s."""
    moments = iter([1.0, 3.0, 6.0, 11.0, 20.0, 21.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(moments))

    @part("inner")
    def inner() -> int:
        return 1

    @part("outer")
    def outer() -> int:
        return inner() + 1

    clock = PartClock(torch.device("cpu"))
    assert outer() == 2  # without a clock no time is asked for
    with measured_by(clock):
        assert outer() == 2
        inner()
    assert dict(clock.seconds) == {"inner": 4.0, "outer": 7.0}


def test_a_table_over_targets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "speed.jsonl"
    asked = ["--size", "64x80", "--targets", "1", "2", "--frames", "6", "--device", "cpu", "--output", str(record)]
    assert cli.main(["speed", "sam2long", *asked]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    rows = [json.loads(line) for line in record.read_text().splitlines()]
    assert [(row["size"], row["targets"], row["device"]) for row in rows] == [("64x80", 1, "cpu"), ("64x80", 2, "cpu")]
    for row in rows:
        assert set(row["parts"]) == {"encode", "read memory", "decode masks", "write memory"}
        assert 0 < row["p10"] <= row["ms"] <= row["p90"]
        assert row["peak MB"] > 0
        assert row["versions"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--size", "480"], "--size 480: give height and width"),
        (["--frames", "2"], "at least 4 frames"),
        (["--against", "sam2", "--frames", "6", "--size", "64x80"], "the package has no model of size nano"),
    ],
)
def test_what_cannot_be_measured_is_said(asked: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["speed", "sam2long", "--device", "cpu", *asked]) == 2
    assert said in capsys.readouterr().err


def test_a_method_without_compiled_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["speed", "univs", "--compile", "--device", "cpu"]) == 2
    assert "univs has no steps that can be compiled" in capsys.readouterr().err
