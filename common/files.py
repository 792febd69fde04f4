"""Small text files that are there whole or not at all, and checksums."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file in hex."""
    value = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            value.update(block)
    return value.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a file in one step: after a crash there is the old one or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    waiting = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with waiting.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        waiting.replace(path)
    finally:
        waiting.unlink(missing_ok=True)
