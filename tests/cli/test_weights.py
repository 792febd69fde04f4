"""The verbs ``weights`` and ``doctor``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import cli
from common.cli import doctor
from common.cli.build import build_method, method_folders
from common.cli.weights import Weights, known_weights
from common.configs import load_config
from common.files import file_sha256


def test_every_method_says_what_it_loads_and_its_own_are_here_and_right(repository: Path) -> None:
    entries = known_weights()
    assert {entry.method for entry in entries} == set(method_folders())
    ours = [entry for entry in entries if entry.source.startswith("weights/")]
    assert {entry.method for entry in ours} == set(method_folders())
    for entry in ours:
        assert (repository / entry.source).is_file(), entry
        assert entry.state == "here, checksum right", entry
    for entry in entries:
        assert load_config(repository / entry.config), entry
        assert entry.licence


def test_committed_weights_are_small_half_precision_and_named(repository: Path) -> None:
    named = {entry.path for entry in known_weights() if entry.path is not None}
    for file in (repository / "weights").rglob("*.safetensors"):
        assert file.stat().st_size < 8e6, file
        assert any(file == path or path in file.parents for path in named), f"{file}: no weights.yaml names it"


def test_a_listing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["weights", "sam2long"]) == 0
    out = capsys.readouterr().out
    assert "sam2_nano.safetensors   [here, checksum right]" in out
    assert "sam2.1_hiera_large.pt" in out
    assert "VIDSEG_WEIGHTS" in out
    assert cli.main(["weights", "sam3"]) == 2
    assert "no such method" in capsys.readouterr().err


def test_a_damaged_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDSEG_WEIGHTS", str(tmp_path))
    entry = Weights("sam2long", "some.pt", "", "", "", "", sha256="0" * 64)
    assert entry.state == "not here"
    (tmp_path / "some.pt").write_bytes(b"x")
    assert entry.state.startswith("damaged")
    right = Weights("sam2long", "some.pt", "", "", "", "", sha256=file_sha256(tmp_path / "some.pt"))
    assert right.state == "here, checksum right"


def test_convert_and_load_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.safetensors"
    assert cli.main(["weights", "convert", "sam2long", "nano", str(output), "--half"]) == 0
    assert "SHA-256" in capsys.readouterr().out
    one, other = build_method("sam2long", "nano"), build_method("sam2long", str(output))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert cli.main(["weights", "convert", "sam2long", "nano", str(tmp_path / "out.pt")]) == 2
    assert "must end in .safetensors" in capsys.readouterr().err


def test_doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "DAVIS-2016").mkdir()
    monkeypatch.setenv("VIDSEG_DATA", str(tmp_path))
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert f"davis2016: {tmp_path / 'DAVIS-2016'}" in out
    assert "sam2long: sam2_nano.safetensors, here, checksum right" in out
    monkeypatch.setattr(doctor, "NEEDED", ("torch", "no-such-package"))
    assert cli.main(["doctor"]) == 1
    assert "missing: no-such-package; run make setup" in capsys.readouterr().out


def test_the_list_of_weights_imports_no_torch(repository: Path) -> None:
    code = "import sys, cli; cli.main(['weights']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
