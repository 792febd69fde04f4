"""Locate data sets on disk."""

from __future__ import annotations

import os
import re
from pathlib import Path

from common.errors import InputError

VARIABLE = "VIDSEG_DATA"


def find_root(root: str | Path | None, names: tuple[str, ...], source: str) -> Path:
    """Return the folder of a data set: ``root``, or a folder in ``$VIDSEG_DATA`` with one of the names.

    Args:
        root: folder given by the user, or None.
        names: accepted folder names, preferred first; case and punctuation are ignored (``DAVIS-2016`` is
            ``davis2016``).
        source: where to obtain the data, for error messages.

    Raises:
        InputError: there is no such folder.
    """
    if root is not None:
        if not Path(root).is_dir():
            raise InputError(f"{root}: no such folder; get {names[0]} from {source} and give the folder it is in")
        return Path(root)
    data = os.environ.get(VARIABLE, "")
    entries = sorted(Path(data).iterdir()) if data and Path(data).is_dir() else []
    folders = {re.sub(r"[^a-z0-9]", "", path.name.lower()): path for path in entries if path.is_dir()}
    for name in names:
        if name in folders:
            return folders[name]
    reason = f"{VARIABLE}={data} has none" if data else f"{VARIABLE} is not set"
    raise InputError(
        f"{names[0]} not found ({reason}): get it from {source} and put it in a folder {names[0]} below "
        f"${VARIABLE}, or give root"
    )
