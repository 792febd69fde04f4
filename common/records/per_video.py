"""Measurements of single videos on disk, so that an interrupted run continues where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from common.files import write_text


def save_video(folder: str | Path, video_id: str, values: Mapping[str, NDArray[Any]], key: str) -> None:
    """Save the measurements of one video.

    Args:
        folder: ``per_video`` folder of the run.
        video_id: any text; it is quoted to make the file name.
        values: small arrays of numbers or booleans.
        key: digest of everything that the values depend on, see ``RunInfo.key``.
    """
    stored = {
        name: {"dtype": str(value.dtype), "shape": value.shape, "data": value.flatten().tolist()}
        for name, value in values.items()
    }
    write_text(_video_file(folder, video_id), json.dumps({"key": key, "video": video_id, "values": stored}))


def load_video(folder: str | Path, video_id: str, key: str) -> dict[str, NDArray[Any]] | None:
    """Load the measurements of one video.

    Args:
        folder: ``per_video`` folder of the run.
        video_id: as given to ``save_video``.
        key: digest that the file must carry.

    Returns:
        The arrays, or None where the file is missing, unreadable, or of a run with another key.
    """
    try:
        data = json.loads(_video_file(folder, video_id).read_text(encoding="utf-8"))
        if data["key"] != key:
            return None
        return {
            name: np.array(value["data"], dtype=value["dtype"]).reshape(value["shape"])
            for name, value in data["values"].items()
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _video_file(folder: str | Path, video_id: str) -> Path:
    return Path(folder) / f"{quote(video_id, safe='')}.json"
