"""The arrows of docs/architecture.md, and what every file has."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path for path in [ROOT / "cli.py", *(ROOT / "common").rglob("*.py"), *(ROOT / "methods").rglob("*.py")]
)
# A part of common and the other parts it may import; these two are for all.
BASE = {"errors", "files"}
ARROWS = {
    "errors": set(),
    "files": set(),
    "environment": set(),
    "optim": set(),
    "resume": set(),
    "results": {"environment", "resume"},
    "video": set(),
    "metrics": set(),
    "nn": {"checkpoints", "data", "session", "video"},
    "checkpoints": set(),
    "benchmarks": {"metrics", "video"},
    "data": {"benchmarks", "video"},
    "leaderboard": {"results"},
    "report": {"benchmarks", "leaderboard", "results", "video"},
    "measuring": {"segmenter", "video"},
    "provenance": {"checkpoints", "results", "benchmarks", "segmenter"},
    "prediction": {"video"},
    "scoring": {"measuring", "provenance", "results", "benchmarks", "segmenter", "video"},
    "session": {"video"},
    "segmenter": {"session", "scoring", "prediction", "data", "benchmarks", "video"}
    | {"checkpoints", "optim", "provenance"},
    "baselines": {"segmenter", "session", "video"},
    "evaluation": {"benchmarks", "results"},
    "tracking": {"prediction", "segmenter", "session", "video"},
    "cli": {"benchmarks", "checkpoints", "data", "evaluation", "measuring", "provenance", "segmenter", "video"}
    | {"tracking"},
}


def imported(path: Path) -> Iterator[tuple[str, ...]]:
    """The dotted names that a file imports, ``from common import optim`` as common.optim."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = (node.module or "").split(".")
            yield from ((*module, alias.name) for alias in node.names)


def part_of(path: Path) -> str:
    """``data`` of ``common/data/clip.py``, ``optim`` of ``common/optim.py``."""
    return path.relative_to(ROOT / "common").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_point_one_way(path: Path) -> None:
    place = path.relative_to(ROOT).parts
    for name in imported(path):
        where = f"{'/'.join(place)} imports {'.'.join(name)}"
        assert not (place[0] == "common" and name[0] == "methods"), where
        assert not (place[0] != "cli.py" and name[0] == "cli"), where
        assert name[0] != "tests", where
        if place[0] == "methods" and len(place) > 2 and name[0] == "methods":
            assert name[1] == place[1], where
        if place[0] == "common" and len(name) > 1 and name[0] == "common" and place[1] != "__init__.py":
            part = part_of(path)
            assert part in ARROWS, f"{where}: give common/{part} its line in ARROWS and in docs/architecture.md"
            assert name[1] in ARROWS[part] | BASE | {part}, where


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_says_what_it_is_and_is_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert text.count("\n") <= 400


def test_a_wrong_arrow_would_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("import methods.sam2long\nfrom common import optim\nfrom common.data.clip import Clip\n")
    names = [("methods", "sam2long"), ("common", "optim"), ("common", "data", "clip", "Clip")]
    assert list(imported(path)) == names


def test_the_text_of_the_map_names_every_part() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert [part for part in ARROWS if f"`{part}`" not in text] == []
