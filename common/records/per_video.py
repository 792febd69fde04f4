"""What is measured of each video is kept, so that a failed video does not lose a night."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from common.files import write_text

if TYPE_CHECKING:
    from torch import Tensor


def save_video(folder: str | Path, video_id: str, values: dict[str, Tensor], key: str) -> None:
    """Keep what ``Benchmark.measure`` gave for one video, so that a rerun goes on from there.

    Args:
        folder: of this run.
        video_id: any text.
        values: small tensors.
        key: ``digest`` of all that the values depend on: settings, weights, protocol.
    """
    stored = {
        name: {"dtype": str(value.dtype).removeprefix("torch."), "shape": value.shape, "data": value.flatten().tolist()}
        for name, value in values.items()
    }
    write_text(_video_file(folder, video_id), json.dumps({"key": key, "video": video_id, "values": stored}))


def load_video(folder: str | Path, video_id: str, key: str) -> dict[str, Tensor] | None:
    """What ``save_video`` kept; None if there is nothing, it is unreadable, or it belongs to a run with another key."""
    import torch

    try:
        data = json.loads(_video_file(folder, video_id).read_text(encoding="utf-8"))
        if data["key"] != key:
            return None
        return {
            name: torch.tensor(value["data"], dtype=getattr(torch, value["dtype"])).view(value["shape"])
            for name, value in data["values"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError):
        return None


def _video_file(folder: str | Path, video_id: str) -> Path:
    return Path(folder) / f"{quote(video_id, safe='')}.json"
