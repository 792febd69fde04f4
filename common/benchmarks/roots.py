"""Where a data set lies on this machine."""

from __future__ import annotations

import os
import re
from pathlib import Path

from common.errors import InputError

VARIABLE = "VIDSEG_DATA"


def find_root(root: str | Path | None, names: tuple[str, ...], source: str) -> Path:
    """Folder of a data set: ``root``, or else a folder in ``$VIDSEG_DATA`` that has one of the names.

    Args:
        root: given by the user; it only has to exist.
        names: accepted folder names, best first; case and punctuation do not matter (``DAVIS-2016`` is ``davis2016``).
        source: where to get the data, for the message.

    Raises:
        InputError: there is no such folder.
    """
    if root is not None:
        if not Path(root).is_dir():
            raise InputError(f"{root}: no such folder; get {names[0]} from {source} and give the folder it is in")
        return Path(root)
    place = os.environ.get(VARIABLE, "")
    inside = sorted(Path(place).iterdir()) if place and Path(place).is_dir() else []
    folders = {re.sub(r"[^a-z0-9]", "", path.name.lower()): path for path in inside if path.is_dir()}
    for name in names:
        if name in folders:
            return folders[name]
    looked = f"{VARIABLE}={place} has none" if place else f"{VARIABLE} is not set"
    raise InputError(
        f"{names[0]} not found ({looked}): get it from {source} and put it in a folder {names[0]} below "
        f"${VARIABLE}, or give root"
    )
