"""JSON files that come from outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from common.errors import InputError


def read_json(path: Path, what: str) -> dict[str, Any]:
    """A JSON file that holds an object.

    Args:
        path: the file.
        what: it is, for the message: ``annotation file``.

    Raises:
        InputError: no such file, damaged JSON, or something else than an object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such {what}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: the {what} is not readable JSON ({error}); replace the file") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: the {what} must hold an object {{...}}, not {type(data).__name__}")
    return data
