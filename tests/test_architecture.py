"""The rules of docs/architecture.md, computed from the imports of every file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOP = ("cli.py", "common", "methods")
LONGEST = 450  # lines of a file

Module = tuple[str, ...]  # ("common", "data", "clip")


def modules(root: Path) -> dict[Module, Path]:
    """Every module below ``cli.py``, ``common`` and ``methods``; packages end in ``__init__``."""
    paths = [
        path
        for name in TOP
        for path in sorted((root / name).rglob("*.py") if (root / name).is_dir() else [root / name])
    ]
    return {path.relative_to(root).with_suffix("").parts: path for path in paths if path.is_file()}


def imports(path: Path, known: dict[Module, Path]) -> Iterator[tuple[int, Module]]:
    """Line and module of every import of the project's own modules: at the top, in functions, and for types only."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            module = tuple((node.module or "").split("."))
            # "from package import name" imports a module of that name where there is one, else something of the package
            names = [
                (*module, alias.name) if is_module((*module, alias.name), known) else module for alias in node.names
            ]
        else:
            continue
        for name in names:
            if name in known:
                yield node.lineno, name
            elif (*name, "__init__") in known:
                yield node.lineno, (*name, "__init__")
            elif name[0] in {"common", "methods", "cli", "tests"}:
                yield node.lineno, name


def is_module(name: Module, known: dict[Module, Path]) -> bool:
    return name in known or (*name, "__init__") in known


def circles(root: Path) -> list[str]:
    """Circles between the children (files and folders) of any one folder, each with one import of every arrow in it.

    A folder is one node among its siblings, so an arrow back to a room that is needed, directly or through others,
    closes a circle, whichever file it is in.
    """
    known = modules(root)
    arrows: dict[Module, dict[tuple[str, str], str]] = {}
    for module, path in known.items():
        for line, target in imports(path, known):
            depth = next((i for i, (a, b) in enumerate(zip(module, target, strict=False)) if a != b), None)
            if depth is not None:
                pair = module[depth], target[depth]
                arrows.setdefault(module[:depth], {})[pair] = f"{path.relative_to(root)}:{line}"
    found = []
    for folder, pairs in arrows.items():
        for circle in _circles(pairs):
            where = ", ".join(f"{a} -> {b} ({place})" for (a, b), place in pairs.items() if {a, b} <= circle)
            found.append(f"{'/'.join(folder) or '.'}: {where}")
    return found


def _circles(pairs: dict[tuple[str, str], str]) -> list[set[str]]:
    """Groups of nodes that reach each other."""
    reach = {node: {node} for pair in pairs for node in pair}
    changed = True
    while changed:
        changed = False
        for a, b in pairs:
            if not reach[b] <= reach[a]:
                reach[a] |= reach[b]
                changed = True
    groups = {frozenset(b for b in reach[a] if a in reach[b]) for a in reach}
    return [set(group) for group in groups if len(group) > 1]


def wrong_layers(root: Path) -> list[str]:
    """Imports against ``cli -> methods -> common``, or from one method into another."""
    known, wrong = modules(root), []
    for module, path in known.items():
        for line, target in imports(path, known):
            upward = {"common": {"methods", "cli", "tests"}, "methods": {"cli", "tests"}, "cli": {"tests"}}[module[0]]
            other = module[0] == target[0] == "methods" and len(module) > 2 and module[1] != target[1]
            if target[0] in upward or other:
                wrong.append(f"{path.relative_to(root)}:{line} imports {'.'.join(target)}")
    return wrong


def test_no_import_goes_in_a_circle() -> None:
    assert circles(ROOT) == []


def test_common_knows_no_method_and_no_method_another() -> None:
    assert wrong_layers(ROOT) == []


def test_every_file_has_a_docstring_and_a_reasonable_length() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in modules(ROOT).values()}
    assert [str(path) for path, text in texts.items() if not ast.get_docstring(ast.parse(text))] == []
    assert [str(path) for path, text in texts.items() if text.count("\n") > LONGEST] == []


def test_the_map_names_every_room() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {module[1] for module in modules(ROOT) if module[0] == "common" and len(module) > 1} - {"__init__"}
    assert [room for room in sorted(rooms) if f"`{room}`" not in text] == []


def test_any_arrow_back_is_seen(tmp_path: Path) -> None:
    tree = {
        "common/__init__.py": "",
        "common/errors.py": "",
        "common/video/__init__.py": "from common.video.types import Video",
        "common/video/types.py": "import common.errors",
        "common/nn/sam/model.py": "from common.video import Video",
        "common/nn/resnet.py": "",
        "common/segmenter.py": "from common.nn.sam.model import Sam",
        "methods/a/module.py": "from common import segmenter",
        "methods/b/module.py": "from common.segmenter import Segmenter",
        "cli.py": "def main():\n    from methods.a import module",
    }
    forward = {
        "common/video/types.py": ["common.errors"],
        "common/nn/sam/model.py": ["common.video", "common.errors"],
        "common/segmenter.py": ["common.nn.sam", "common.video", "common.errors"],
    }
    for name, text in tree.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert circles(tmp_path) == wrong_layers(tmp_path) == []
    forms = (
        "import {0}",
        "from {1} import {2}",
        "def later():\n    import {0}",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {0}",
    )
    for low, lower in forward.items():
        for target in lower:
            place = next(
                p
                for p in (f"{target.replace('.', '/')}.py", f"{target.replace('.', '/')}/new.py")
                if (tmp_path / p).exists() or p.endswith("new.py")
            )
            name = low.removesuffix(".py").replace("/", ".")
            for form in forms:
                before = (tmp_path / place).read_text() if (tmp_path / place).exists() else None
                (tmp_path / place).write_text((before or "") + "\n" + form.format(name, *name.rsplit(".", 1)))
                assert circles(tmp_path), f"{place} -> {name} as {form!r}"
                (tmp_path / place).write_text(before) if before is not None else (tmp_path / place).unlink()
    assert circles(tmp_path) == []
    (tmp_path / "common/errors.py").write_text("import methods.a.module")
    (tmp_path / "methods/b/module.py").write_text("from methods.a.module import x\nimport cli")
    assert len(wrong_layers(tmp_path)) == 3
