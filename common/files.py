"""Atomic writes, JSON input and checksums."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unicodedata import normalize

from common.errors import InputError

PROJECT = Path(__file__).resolve().parents[1]
WEIGHTS_VARIABLE = "VIDSEG_WEIGHTS"
"""Environment variable with a second folder of weights."""


def weights_folders() -> list[Path]:
    """Return the folders of weights: ``weights`` of the project, and that of ``$VIDSEG_WEIGHTS`` if it is set."""
    more = os.environ.get(WEIGHTS_VARIABLE)
    return [PROJECT / "weights", *([Path(more)] if more else [])]


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits.

    Args:
        path: the file.
    """
    value = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            value.update(block)
    return value.hexdigest()


def digest(*parts: object) -> str:
    """Return a hash of plain data as sixteen hexadecimal digits.

    Args:
        parts: JSON-serialisable values; the order of dictionary keys does not matter.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def find_child(folder: Path, name: str) -> Path:
    """Return ``folder / name``, or the entry of that name in another Unicode form (macOS decomposes umlauts).

    Args:
        folder: the folder, which need not exist.
        name: of the file or folder.
    """
    path = folder / name
    if name.isascii() or path.exists() or not folder.is_dir():
        return path
    same = [entry for entry in folder.iterdir() if normalize("NFC", entry.name) == normalize("NFC", name)]
    return same[0] if same else path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` on success and is removed on failure.

    An existing file stays in place until then. Parent folders are created.

    Args:
        path: final name of the file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, since a rename is atomic only within one file system.
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def folder_lock(folder: Path) -> Iterator[int]:
    """Hold the lock of a folder, which ends with the process; yields its file descriptor.

    Args:
        folder: where one process may work at a time.

    Raises:
        InputError: another process holds it.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{folder}: another process works here; wait for it, or end it") from None
        yield file.fileno()


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically: after a crash, either the old or the new content is complete.

    Args:
        path: the file.
        text: its content, written as UTF-8.
    """
    with atomic_path(path) as part, part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read_json(path: Path, kind: str) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        path: the file.
        kind: what the file is, for error messages, e.g. ``annotation file``.

    Raises:
        InputError: the file is missing, is not valid JSON, or does not hold an object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such {kind}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: the {kind} is not readable JSON ({error}); replace the file") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: the {kind} must hold an object {{...}}, not {type(data).__name__}")
    return data
